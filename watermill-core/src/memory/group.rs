//! [`Group`]: the queue of one consumer group of one topic, and who reads it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    task::Waker,
};

use tokio::time::{Duration, Instant};

use super::{
    marshaler::{HandedOut, Record},
    wakers::Wakers,
};
use crate::{Window, delivery::Outcome};

/// A delay that a clock cannot express waits this long: a lifetime.
const DELAY_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 60 * 60);

/// Everything a group owns. A record is in exactly one of `ready`, `delayed` and one member's
/// `outstanding`.
///
/// Deques keep what they allocated, so a group in steady state allocates nothing for a message.
pub(super) struct Group {
    pub(super) id: u64,
    /// Without a name it ends with its only member.
    pub(super) name: Option<Arc<str>>,
    /// To be handed out from the front; sorted by sequence while the group is ordered.
    ready: VecDeque<Record>,
    /// Nacked with a delay while the group is unordered. In an ordered group they are held in `ready`.
    delayed: BinaryHeap<Reverse<Delayed>>,
    members: Vec<Member>,
    /// Whether any member asked for order. Then one member at a time has outstanding deliveries.
    ordered: bool,
    /// Of all members together.
    outstanding: usize,
}

struct Member {
    id: u64,
    window: Window,
    /// Cleared by `stop_intake`.
    takes: bool,
    /// Handed out and not settled, sorted by sequence. Nearly always one, or settled from the front.
    outstanding: VecDeque<Record>,
    /// Set while its reader sleeps, so that nobody is woken who is awake.
    waker: Option<Waker>,
}

/// What a reader gets.
#[expect(clippy::large_enum_variant, reason = "a box would cost an allocation for every delivery")]
pub(super) enum Next {
    HandedOut(HandedOut),
    /// Nothing now: sleep until woken, or until the time given.
    Sleep(Option<Instant>),
    Ended,
}

impl Group {
    pub(super) fn new(id: u64, name: Option<Arc<str>>, history: VecDeque<Record>) -> Self {
        Self {
            id,
            name,
            ready: history,
            delayed: BinaryHeap::new(),
            members: Vec::new(),
            ordered: false,
            outstanding: 0,
        }
    }

    /// How many messages it holds.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.outstanding
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    pub(super) fn push(&mut self, record: Record) {
        self.ready.push_back(record);
    }

    pub(super) fn join(&mut self, member: u64) {
        self.members.push(Member {
            id: member,
            window: Window::ONE,
            takes: true,
            outstanding: VecDeque::new(),
            waker: None,
        });
        self.update_order();
    }

    /// Removes a member; what it had outstanding goes back to its place. False if it was not there.
    pub(super) fn leave(&mut self, member: u64, wakers: &mut Wakers) -> bool {
        let Some(at) = self.position(member) else { return false };
        let mut member = self.members.remove(at);
        wakers.extend(member.waker.take());
        self.outstanding -= member.outstanding.len();
        while let Some(record) = member.outstanding.pop_back() {
            self.put_back(record);
        }
        self.update_order();
        self.wake(wakers);
        true
    }

    /// The next record for a member, or how long to sleep.
    pub(super) fn next(&mut self, member: u64, waker: &Waker) -> Next {
        let Some(at) = self.position(member).filter(|at| self.members[*at].takes) else {
            return Next::Ended;
        };
        if !self.delayed.is_empty() {
            self.release_delayed();
        }
        let until = if self.may_take(at) {
            match self.take() {
                Ok(mut record) => {
                    let handed_out = record.hand_out();
                    self.members[at].keep(record);
                    self.outstanding += 1;
                    return Next::HandedOut(handed_out);
                }
                Err(until) => until,
            }
        } else {
            // Whoever settles wakes it.
            None
        };
        match &mut self.members[at].waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Next::Sleep(until)
    }

    /// Takes note of an outcome. Returns the record if it has left the group, `None` inside if it
    /// stays, `None` outside if the member had no such delivery outstanding.
    pub(super) fn settle(
        &mut self,
        member: u64,
        sequence: u64,
        outcome: &Outcome,
        wakers: &mut Wakers,
    ) -> Option<Option<Record>> {
        let at = self.position(member)?;
        let record = self.members[at].release(sequence)?;
        self.outstanding -= 1;
        let left = if let Outcome::Nack { delay } = outcome {
            self.nack(record, *delay);
            None
        } else {
            Some(record)
        };
        self.wake(wakers);
        Some(left)
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
        wakers.extend(self.members[at].waker.take());
        // It may have been woken for a record that it does not take any more.
        self.wake(wakers);
    }

    pub(super) fn takes(&self, member: u64) -> bool {
        self.position(member).is_some_and(|at| self.members[at].takes)
    }

    /// Wakes every sleeper that could take something. All of them, because whoever is woken need not
    /// come: a reader may be polled once and then left alone for as long as its owner likes.
    pub(super) fn wake(&mut self, wakers: &mut Wakers) {
        if self.ready.is_empty() && self.delayed.is_empty() {
            return;
        }
        for at in 0..self.members.len() {
            if self.members[at].waker.is_some() && self.may_take(at) {
                wakers.extend(self.members[at].waker.take());
            }
        }
    }

    fn position(&self, member: u64) -> Option<usize> {
        self.members.iter().position(|known| known.id == member)
    }

    fn may_take(&self, at: usize) -> bool {
        let mine = self.members[at].outstanding.len();
        mine < self.members[at].window.size() && (!self.ordered || mine == self.outstanding)
    }

    /// The first record, or when there will be one, as far as that is known.
    fn take(&mut self) -> Result<Record, Option<Instant>> {
        match self.ready.front().map(|first| first.held_until) {
            Some(Some(until)) if until > Instant::now() => Err(Some(until)),
            Some(_) => self.ready.pop_front().ok_or(None),
            None => Err(self.delayed.peek().map(|Reverse(first)| first.until)),
        }
    }

    fn nack(&mut self, mut record: Record, delay: Duration) {
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
            record.held_until = Some(until);
            self.put_back(record);
        } else {
            self.delayed.push(Reverse(Delayed { until, record }));
        }
    }

    /// Inserts a record at its place. It was handed out, so it belongs at or near the front.
    fn put_back(&mut self, record: Record) {
        let at = self.ready.iter().position(|later| later.sequence > record.sequence);
        self.ready.insert(at.unwrap_or(self.ready.len()), record);
    }

    fn release_delayed(&mut self) {
        let now = Instant::now();
        while self.delayed.peek().is_some_and(|Reverse(first)| first.until <= now) {
            if let Some(Reverse(due)) = self.delayed.pop() {
                self.put_back(due.record);
            }
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
            let delayed = std::mem::take(&mut self.delayed).into_iter();
            self.ready.extend(delayed.map(|Reverse(Delayed { until, mut record })| {
                record.held_until = Some(until);
                record
            }));
            self.ready.make_contiguous().sort_unstable_by_key(|record| record.sequence);
        } else {
            for mut record in std::mem::take(&mut self.ready) {
                match record.held_until.take() {
                    Some(until) => self.delayed.push(Reverse(Delayed { until, record })),
                    None => self.ready.push_back(record),
                }
            }
        }
    }
}

impl Member {
    fn keep(&mut self, record: Record) {
        match self.outstanding.back() {
            // A redelivery that was overtaken.
            Some(last) if last.sequence > record.sequence => {
                let at = self.outstanding.partition_point(|other| other.sequence < record.sequence);
                self.outstanding.insert(at, record);
            }
            _ => self.outstanding.push_back(record),
        }
    }

    fn release(&mut self, sequence: u64) -> Option<Record> {
        if self.outstanding.front()?.sequence == sequence {
            return self.outstanding.pop_front();
        }
        let at = self.outstanding.binary_search_by_key(&sequence, |record| record.sequence).ok()?;
        self.outstanding.remove(at)
    }
}

/// Sorted by time, then by place.
struct Delayed {
    until: Instant,
    record: Record,
}

impl Delayed {
    fn order(&self) -> (Instant, u64) {
        (self.until, self.record.sequence)
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}
