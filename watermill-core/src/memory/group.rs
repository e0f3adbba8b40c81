//! [`Group`]: the queue of one consumer group of one topic, and who reads it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    task::Waker,
};

use tokio::time::{Duration, Instant};

use super::marshaler::Record;
use crate::{
    Window,
    backend::{Next, Wakers},
    delivery::{Origin, Outcome, Token},
};

/// A delay that a clock cannot express waits this long: a lifetime.
const DELAY_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 60 * 60);

/// Everything a group owns. A record is in one place at a time: in `ready`, in `delayed` or among one
/// member's `outstanding`.
pub(super) struct Group {
    pub(super) id: u64,
    /// Without a name it ends with its only member.
    pub(super) name: Option<Arc<str>>,
    /// To be handed out from the front; sorted by sequence while the group is ordered.
    ready: VecDeque<Entry>,
    /// Nacked with a delay while the group is unordered, by the time they are due and their sequence. In
    /// an ordered group they are held in `ready`.
    delayed: BTreeMap<(Instant, u64), Record>,
    members: Vec<Member>,
    /// Whether any member asked for order. Then one member at a time has outstanding deliveries.
    ordered: bool,
    /// Of all members together.
    outstanding: usize,
    /// Members with a waker. Nearly always none: whoever has messages does not sleep.
    asleep: usize,
}

struct Member {
    id: u64,
    window: Window,
    /// Cleared by `stop_intake`.
    takes: bool,
    /// Handed out and not settled, sorted by sequence. Nearly always one, or settled from the front.
    outstanding: VecDeque<Entry>,
    /// How many of those are handled.
    handled: usize,
    /// Set while its reader sleeps, so that nobody is woken who is awake.
    waker: Option<Waker>,
}

/// A record that waits or is outstanding.
struct Entry {
    record: Record,
    /// While it is in `ready`: neither it nor anything behind it is handed out earlier.
    held_until: Option<Instant>,
    /// While it is outstanding: its handler has finished, and its outputs are on their way.
    handled: bool,
}

impl Group {
    pub(super) fn new(id: u64, name: Option<Arc<str>>, history: &VecDeque<Record>) -> Self {
        let mut group = Self {
            id,
            name,
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            members: Vec::new(),
            ordered: false,
            outstanding: 0,
            asleep: 0,
        };
        for record in history {
            group.push(record.clone());
        }
        group
    }

    /// How many messages it holds.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.outstanding
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    #[inline]
    pub(super) fn push(&mut self, record: Record) {
        self.ready.push_back(Entry::new(record));
    }

    pub(super) fn join(&mut self, member: u64) {
        self.members.push(Member {
            id: member,
            window: Window::ONE,
            takes: true,
            outstanding: VecDeque::new(),
            handled: 0,
            waker: None,
        });
        self.update_order();
    }

    /// Removes a member; what it had outstanding goes back to its place. False if it was not there.
    pub(super) fn leave(&mut self, member: u64, wakers: &mut Wakers) -> bool {
        let Some(at) = self.position(member) else { return false };
        let mut member = self.members.remove(at);
        self.rouse_into(member.waker.take(), wakers);
        self.outstanding -= member.outstanding.len();
        while let Some(entry) = member.outstanding.pop_back() {
            self.put_back(Entry::new(entry.record));
        }
        self.update_order();
        self.wake(wakers);
        true
    }

    /// The next delivery for a member, or how long to sleep. The waker of an earlier sleep is put into
    /// `replaced`.
    #[inline]
    pub(super) fn next(
        &mut self,
        member: u64,
        origin: &Origin,
        waker: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Next {
        let Some(at) = self.position(member).filter(|at| self.members[*at].takes) else {
            return Next::Ended;
        };
        if !self.delayed.is_empty() {
            self.release_delayed();
        }
        // Without room in its window, whoever settles wakes it.
        let mut until = None;
        if self.may_take(at) {
            until = self.due();
            if until.is_none()
                && let Some(entry) = self.ready.pop_front()
            {
                self.outstanding += 1;
                // Made under the lock, where it is returned from: a delivery is large to move, and all
                // it takes is a few counts.
                return Next::Delivery(self.members[at].keep(entry).deliver(origin));
            }
        }
        let old = &mut self.members[at].waker;
        if !old.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *replaced = old.replace(waker.clone());
            self.asleep += usize::from(replaced.is_none());
        }
        Next::Sleep(until)
    }

    /// Takes note of an outcome; false if the member had no such delivery outstanding. A record that
    /// leaves the group is put into `left`.
    pub(super) fn settle(
        &mut self,
        member: u64,
        token: Token,
        outcome: &Outcome,
        left: &mut Option<Record>,
        wakers: &mut Wakers,
    ) -> bool {
        let Some(at) = self.position(member) else { return false };
        let Some(entry) = self.members[at].release(token) else { return false };
        self.outstanding -= 1;
        if let Outcome::Nack { delay } = outcome {
            self.nack(entry, *delay);
        } else {
            *left = Some(entry.record);
        }
        self.wake(wakers);
        true
    }

    /// Takes note that a delivery was handled and waits for its outputs.
    pub(super) fn handled(&mut self, member: u64, token: Token, wakers: &mut Wakers) {
        let Some(at) = self.position(member) else { return };
        let member = &mut self.members[at];
        if let Some(place) = member.find(token)
            && !mem::replace(&mut member.outstanding[place].handled, true)
        {
            member.handled += 1;
            self.wake(wakers);
        }
    }

    pub(super) fn set_window(&mut self, member: u64, window: Window, wakers: &mut Wakers) {
        let Some(at) = self.position(member) else { return };
        self.members[at].window = window;
        self.update_order();
        self.wake(wakers);
    }

    pub(super) fn stop_intake(&mut self, member: u64, wakers: &mut Wakers) {
        let Some(at) = self.position(member) else { return };
        self.members[at].takes = false;
        let waker = self.members[at].waker.take();
        self.rouse_into(waker, wakers);
        // It may have been woken for a record that it does not take any more.
        self.wake(wakers);
    }

    /// How many deliveries a member has outstanding.
    pub(super) fn outstanding(&self, member: u64) -> usize {
        self.position(member).map_or(0, |at| self.members[at].outstanding.len())
    }

    pub(super) fn takes(&self, member: u64) -> bool {
        self.position(member).is_some_and(|at| self.members[at].takes)
    }

    /// Wakes every sleeper that could take something. All of them, because whoever is woken need not
    /// come: a reader may be polled once and then left alone for as long as its owner likes.
    #[inline]
    pub(super) fn wake(&mut self, wakers: &mut Wakers) {
        if self.asleep > 0 {
            self.wake_sleepers(wakers);
        }
    }

    #[inline(never)]
    fn wake_sleepers(&mut self, wakers: &mut Wakers) {
        if self.ready.is_empty() && self.delayed.is_empty() {
            return;
        }
        for at in 0..self.members.len() {
            if self.members[at].waker.is_some() && self.may_take(at) {
                let waker = self.members[at].waker.take();
                self.rouse_into(waker, wakers);
            }
        }
    }

    /// Hands on the waker that a member had, if it had one.
    fn rouse_into(&mut self, waker: Option<Waker>, wakers: &mut Wakers) {
        self.asleep -= usize::from(waker.is_some());
        wakers.extend(waker);
    }

    fn position(&self, member: u64) -> Option<usize> {
        // Nearly always the only one.
        if self.members.first().is_some_and(|first| first.id == member) {
            return Some(0);
        }
        self.members.iter().position(|known| known.id == member)
    }

    fn may_take(&self, at: usize) -> bool {
        let Member { window, outstanding, handled, .. } = &self.members[at];
        let mine = outstanding.len();
        mine - handled < window.per_scope()
            && mine < window.total()
            && (!self.ordered || mine == self.outstanding)
    }

    /// When there will be something to take, if there is nothing now and that is known.
    fn due(&self) -> Option<Instant> {
        match self.ready.front() {
            Some(first) => first.held_until.filter(|until| *until > Instant::now()),
            None => self.delayed.first_key_value().map(|((due, _), _)| *due),
        }
    }

    #[inline(never)]
    fn nack(&mut self, entry: Entry, delay: Duration) {
        let mut entry = Entry::new(entry.record);
        if delay.is_zero() {
            if self.ordered {
                self.put_back(entry);
            } else {
                // Behind the others: it must not hold them up, however often it fails.
                self.ready.push_back(entry);
            }
            return;
        }
        let until = Instant::now() + delay.min(DELAY_MAX);
        if self.ordered {
            entry.held_until = Some(until);
            self.put_back(entry);
        } else {
            self.delayed.insert((until, entry.record.sequence), entry.record);
        }
    }

    /// Inserts an entry at its place. It was handed out, so it belongs at or near the front.
    fn put_back(&mut self, entry: Entry) {
        let at = self.ready.iter().position(|later| later.record.sequence > entry.record.sequence);
        self.ready.insert(at.unwrap_or(self.ready.len()), entry);
    }

    #[inline(never)]
    fn release_delayed(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let record = first.remove();
            self.put_back(Entry::new(record));
        }
    }

    /// Arranges what waits for the kind of order that the members ask for now.
    fn update_order(&mut self) {
        let ordered = self.members.iter().any(|member| member.window.is_ordered());
        if ordered == self.ordered {
            return;
        }
        self.ordered = ordered;
        if ordered {
            let delayed = mem::take(&mut self.delayed).into_iter();
            let held =
                delayed.map(|((due, _), record)| Entry { held_until: Some(due), ..Entry::new(record) });
            self.ready.extend(held);
            self.ready.make_contiguous().sort_unstable_by_key(|entry| entry.record.sequence);
        } else {
            for entry in mem::take(&mut self.ready) {
                match entry.held_until {
                    Some(until) => {
                        self.delayed.insert((until, entry.record.sequence), entry.record);
                    }
                    None => self.ready.push_back(entry),
                }
            }
        }
    }
}

impl Entry {
    fn new(record: Record) -> Self {
        Self { record, held_until: None, handled: false }
    }
}

impl Member {
    #[inline]
    fn keep(&mut self, entry: Entry) -> &mut Record {
        let sequence = entry.record.sequence;
        let mut at = self.outstanding.len();
        match self.outstanding.back() {
            // A redelivery that was overtaken.
            Some(last) if last.record.sequence > sequence => {
                at = self.outstanding.partition_point(|other| other.record.sequence < sequence);
                self.outstanding.insert(at, entry);
            }
            _ => self.outstanding.push_back(entry),
        }
        &mut self.outstanding[at].record
    }

    /// Where a delivery is, unless the token names an earlier one of the same message.
    #[inline]
    fn find(&self, token: Token) -> Option<usize> {
        let front = self.outstanding.front()?;
        let at = if front.record.sequence == token.position {
            0
        } else {
            self.outstanding.binary_search_by_key(&token.position, |entry| entry.record.sequence).ok()?
        };
        (self.outstanding.get(at)?.record.attempt() == token.delivery).then_some(at)
    }

    #[inline]
    fn release(&mut self, token: Token) -> Option<Entry> {
        let entry = match self.find(token)? {
            0 => self.outstanding.pop_front()?,
            at => self.outstanding.remove(at)?,
        };
        self.handled -= usize::from(entry.handled);
        Some(entry)
    }
}
