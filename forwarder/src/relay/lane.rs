//! [`Lane`]: messages that have to stay in order.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::item::Item;
use crate::call_size::CallSize;

/// After how long without an answer the messages of a lane count as blocked, so that others go on.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// The messages for one destination, or for one key of it, in order, with at most one call at a time.
pub(super) struct Lane {
    queue: VecDeque<Item>,
    /// How many are with the call in progress, and since when.
    in_call: usize,
    called_at: Option<Instant>,
    /// The call in progress has no answer for so long that it is waited for like a failure.
    slow: bool,
    /// Somebody wants it to wait.
    pub(super) paused: bool,
    /// How many calls in a row have failed.
    failures: u32,
    /// When the next call may begin.
    retry_at: Option<Instant>,
    trouble: Option<Trouble>,
    /// The most messages of the next call.
    call_size: CallSize,
}

/// What a lane waits for.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) error: String,
    pub(super) since: Instant,
}

impl Lane {
    pub(super) fn new(call_size: CallSize) -> Self {
        Self {
            queue: VecDeque::new(),
            in_call: 0,
            called_at: None,
            slow: false,
            paused: false,
            failures: 0,
            retry_at: None,
            trouble: None,
            call_size,
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// How many messages it has in hand.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.in_call
    }

    /// How many messages of a key wait in it for a call.
    pub(super) fn count_of(&self, key: &Bytes) -> usize {
        self.queue.iter().filter(|item| item.key() == Some(key)).count()
    }

    /// How many are with a call in progress.
    pub(super) fn in_call(&self) -> usize {
        self.in_call
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether its messages wait for something else than their turn.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_failing() || self.slow || self.paused
    }

    /// Whether the call in progress has no answer for long.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// How many calls in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// How often its first message was refused alone, or else how many calls in a row have failed.
    pub(super) fn attempts(&self) -> u32 {
        self.queue.front().map_or(0, |item| item.refusals).max(self.failures)
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Takes the messages of the next call, if one may begin that has at most `room`.
    pub(super) fn begin(&mut self, now: Instant, room: usize) -> Option<Vec<Item>> {
        let waits = self.paused || self.in_call > 0 || self.retry_at.is_some_and(|at| at > now);
        let first = self.queue.front().filter(|_| !waits)?;
        // What was refused is tried alone.
        let size = if first.refusals > 0 { 1 } else { self.call_size.get().min(self.queue.len()) };
        if size > room {
            return None;
        }
        (self.in_call, self.called_at, self.retry_at) = (size, Some(now), None);
        Some(self.queue.drain(..size).collect())
    }

    /// Its first message is being given up, which is like a call of one message.
    pub(super) fn begin_by_hand(&mut self) {
        (self.in_call, self.called_at) = (1, Some(Instant::now()));
    }

    /// When something is to be done about it, if nothing happens before: a call may begin, or the one in
    /// progress becomes slow.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.called_at {
            Some(called_at) if !self.slow => Some(called_at + SLOW_AFTER),
            Some(_) => None,
            None => self.retry_at.filter(|_| !self.paused && !self.queue.is_empty()),
        }
    }

    /// Notices, once, that the call in progress is slow.
    pub(super) fn becomes_slow(&mut self, now: Instant) -> bool {
        let slow = !self.slow && self.called_at.is_some_and(|called_at| called_at + SLOW_AFTER <= now);
        if slow {
            self.slow = true;
            self.note(|| format!("no answer for {SLOW_AFTER:?}"), now);
        }
        slow
    }

    /// The call is over.
    pub(super) fn end(&mut self) {
        (self.in_call, self.called_at) = (0, None);
        if std::mem::take(&mut self.slow) && self.failures == 0 {
            self.trouble = None;
        }
    }

    /// So many were accepted: the destination works. Returns what was the matter.
    pub(super) fn succeeded(&mut self, accepted: usize) -> Option<Trouble> {
        (self.failures, self.retry_at) = (0, None);
        self.call_size.accepted(accepted);
        self.trouble.take()
    }

    /// The call failed; the next one has to wait.
    pub(super) fn failed(&mut self, error: impl FnOnce() -> String, now: Instant, wait: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
        self.note(error, now);
    }

    /// Its first message is gone, and what is behind it does not wait any more.
    pub(super) fn relieved(&mut self) {
        (self.failures, self.trouble, self.retry_at) = (0, None, None);
    }

    fn note(&mut self, error: impl FnOnce() -> String, now: Instant) {
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { error: error(), since });
    }

    /// One of `size` messages is at fault, and the next call shall say in which half it is.
    pub(super) fn narrow(&mut self, size: usize) {
        self.call_size.narrow(size);
    }

    /// A call of `size` messages had no answer in time.
    pub(super) fn timed_out(&mut self, size: usize) {
        self.call_size.timed_out(size);
    }

    /// Puts messages back before all others.
    pub(super) fn put_back(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            self.queue.push_front(item);
        }
    }

    /// Takes out what `matches`, and keeps the order of both parts.
    pub(super) fn take_matching(&mut self, matches: impl Fn(&Item) -> bool) -> Vec<Item> {
        if !self.queue.iter().any(&matches) {
            return Vec::new();
        }
        let (taken, left) = std::mem::take(&mut self.queue).into_iter().partition(|item| matches(item));
        self.queue = left;
        Vec::from(taken as VecDeque<Item>)
    }
}
