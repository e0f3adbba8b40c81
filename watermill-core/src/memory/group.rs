//! [`Group`]: the queue of one consumer group of one topic, and who reads it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    task::Waker,
};

use tokio::time::{Duration, Instant};

use super::{
    config::MemoryConfig,
    marshaler::{Record, Remains},
    outstanding::Outstanding,
};
use crate::{
    Window,
    backend::{DeliveryMaker, Next, Wakers},
    delivery::{Outcome, Token},
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
    ready: VecDeque<Record>,
    /// Nacked with a delay while the group is unordered, by the time they are due and their sequence. In
    /// an ordered group they are held in `ready`.
    delayed: Delayed,
    members: Vec<Member>,
    /// Whether any member asked for order. Then one member at a time has outstanding deliveries.
    ordered: bool,
    /// Of all members together.
    outstanding: usize,
    /// Members with a waker. Nearly always none: whoever has messages does not sleep.
    asleep: usize,
}

type Delayed = BTreeMap<(Instant, u64), Record>;

struct Member {
    id: u64,
    window: Window,
    /// Cleared by `stop_intake`.
    takes: bool,
    /// Handed out and not settled.
    outstanding: Outstanding,
    /// Set while its reader sleeps, so that nobody is woken who is awake.
    waker: Option<Waker>,
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
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.outstanding
    }

    /// Whether it takes so many more.
    #[inline]
    pub(super) fn has_room(&self, messages: usize, config: &MemoryConfig) -> bool {
        self.len().saturating_add(messages) <= config.capacity
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    #[inline]
    pub(super) fn push(&mut self, record: Record) {
        self.ready.push_back(record);
    }

    pub(super) fn join(&mut self, member: u64) {
        self.members.push(Member {
            id: member,
            window: Window::ONE,
            takes: true,
            outstanding: Outstanding::default(),
            waker: None,
        });
        self.update_order();
    }

    /// Removes a member; what it had outstanding goes back to its place. False if it was not there.
    pub(super) fn leave(&mut self, member: u64, wakers: &mut Wakers) -> bool {
        let Some(at) = self.members.iter().position(|known| known.id == member) else { return false };
        let mut member = self.members.remove(at);
        self.rouse_into(member.waker.take(), wakers);
        self.outstanding -= member.outstanding.len();
        for record in member.outstanding.into_records() {
            self.put_back(record.returned());
        }
        self.update_order();
        self.wake(wakers);
        true
    }

    /// The next message for a member, or how long to sleep. The waker of an earlier sleep is put into
    /// `replaced`.
    #[inline]
    pub(super) fn next(
        &mut self,
        member: u64,
        deliveries: &mut DeliveryMaker,
        waker: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Next {
        if !self.delayed.is_empty() {
            self.release_delayed();
        }
        let Some(member) = find(&mut self.members, member).filter(|member| member.takes) else {
            return Next::Ended;
        };
        // Without room in its window, whoever settles wakes it.
        let mut until = None;
        if member.may_take(self.ordered, self.outstanding) {
            until = due(&self.ready, &self.delayed);
            if until.is_none()
                && let Some(record) = self.ready.pop_front()
            {
                self.outstanding += 1;
                // Under the lock, since moving what a delivery is made of takes longer than making it.
                return Next::Delivery(deliveries.make(member.outstanding.insert(record).hand_out()));
            }
        }
        if !member.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *replaced = member.waker.replace(waker.clone());
            self.asleep += usize::from(replaced.is_none());
        }
        Next::Sleep(until)
    }

    /// Takes note of an outcome; false if the member had no such delivery outstanding. What is left of a record that
    /// leaves the group is put into `left`.
    #[inline]
    pub(super) fn settle(
        &mut self,
        member: u64,
        token: Token,
        outcome: &Outcome,
        left: &mut Option<Remains>,
        wakers: &mut Wakers,
    ) -> bool {
        let member = find(&mut self.members, member);
        let Some(record) = member.and_then(|member| member.outstanding.remove(token)) else { return false };
        self.outstanding -= 1;
        if let Outcome::Nack { delay } = outcome {
            self.nack(record, *delay);
        } else {
            *left = Some(record.into_remains());
        }
        self.wake(wakers);
        true
    }

    /// Takes note that a delivery was handled and waits for its outputs.
    pub(super) fn handled(&mut self, member: u64, token: Token, wakers: &mut Wakers) {
        if find(&mut self.members, member).is_some_and(|member| member.outstanding.set_handled(token)) {
            self.wake(wakers);
        }
    }

    pub(super) fn set_window(&mut self, member: u64, window: Window, wakers: &mut Wakers) {
        let Some(member) = find(&mut self.members, member) else { return };
        member.window = window;
        self.update_order();
        self.wake(wakers);
    }

    pub(super) fn stop_intake(&mut self, member: u64, wakers: &mut Wakers) {
        let Some(member) = find(&mut self.members, member) else { return };
        member.takes = false;
        let waker = member.waker.take();
        self.rouse_into(waker, wakers);
        // It may have been woken for a record that it does not take any more.
        self.wake(wakers);
    }

    /// How many deliveries a member has outstanding.
    pub(super) fn outstanding(&self, member: u64) -> usize {
        self.member(member).map_or(0, |member| member.outstanding.len())
    }

    pub(super) fn takes(&self, member: u64) -> bool {
        self.member(member).is_some_and(|member| member.takes)
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
        for member in &mut self.members {
            if member.may_take(self.ordered, self.outstanding)
                && let Some(waker) = member.waker.take()
            {
                self.asleep -= 1;
                wakers.push(waker);
            }
        }
    }

    /// Hands on the waker that a member had, if it had one.
    fn rouse_into(&mut self, waker: Option<Waker>, wakers: &mut Wakers) {
        self.asleep -= usize::from(waker.is_some());
        wakers.extend(waker);
    }

    fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    #[inline(never)]
    fn nack(&mut self, record: Record, delay: Duration) {
        let mut record = record.returned();
        if delay.is_zero() {
            if self.ordered {
                self.put_back(record);
            } else {
                // Behind the others: it must not hold them up, however often it fails.
                self.ready.push_back(record);
            }
            return;
        }
        let until = Instant::now() + delay.min(DELAY_MAX);
        if self.ordered {
            record.hold(until);
            self.put_back(record);
        } else {
            self.delayed.insert((until, record.sequence), record);
        }
    }

    /// Inserts a record at its place. It was handed out, so it belongs at or near the front.
    fn put_back(&mut self, record: Record) {
        let at = self.ready.iter().position(|later| later.sequence > record.sequence);
        self.ready.insert(at.unwrap_or(self.ready.len()), record);
    }

    #[inline(never)]
    fn release_delayed(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let record = first.remove();
            self.put_back(record);
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
            for ((due, _), mut record) in mem::take(&mut self.delayed) {
                record.hold(due);
                self.ready.push_back(record);
            }
            self.ready.make_contiguous().sort_unstable_by_key(|record| record.sequence);
        } else {
            for record in mem::take(&mut self.ready) {
                match record.held_until() {
                    Some(until) => {
                        self.delayed.insert((until, record.sequence), record.returned());
                    }
                    None => self.ready.push_back(record),
                }
            }
        }
    }
}

impl Member {
    /// Whether it may be handed another, of a group that has so many outstanding.
    #[inline]
    fn may_take(&self, ordered: bool, outstanding: usize) -> bool {
        let mine = self.outstanding.len();
        self.outstanding.being_handled() < self.window.per_scope()
            && mine < self.window.total()
            && (!ordered || mine == outstanding)
    }
}

#[inline]
fn find(members: &mut [Member], id: u64) -> Option<&mut Member> {
    // Nearly always the only one.
    if members.first().is_some_and(|first| first.id == id) {
        return members.first_mut();
    }
    members.iter_mut().find(|member| member.id == id)
}

/// When there will be something to take, if there is nothing now and that is known.
#[inline]
fn due(ready: &VecDeque<Record>, delayed: &Delayed) -> Option<Instant> {
    match ready.front() {
        Some(first) => first.held_until().filter(|until| *until > Instant::now()),
        None => delayed.first_key_value().map(|((due, _), _)| *due),
    }
}
