//! [`Lane`]: messages that have to stay in order.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::item::Item;

/// The messages for one destination, or for one key of it, in order, with at most one call at a time.
pub(super) struct Lane {
    queue: VecDeque<Item>,
    /// How many are with the call in progress.
    in_call: usize,
    /// How many calls in a row have failed.
    failures: u32,
    /// When the next call may begin.
    retry_at: Option<Instant>,
    /// The most messages of the next call: fewer while a message is searched that is at fault.
    call_size: usize,
    call_size_max: usize,
}

/// What a call is made of.
pub(super) struct LaneBatch {
    pub(super) items: Vec<Item>,
    pub(super) retry_at: Option<Instant>,
    /// How many calls in a row have failed before this one.
    pub(super) failures: u32,
}

impl Lane {
    pub(super) fn new(call_size_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            in_call: 0,
            failures: 0,
            retry_at: None,
            call_size: call_size_max,
            call_size_max,
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// How many messages it has in hand.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.in_call
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// How many calls in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes the messages of the next call, if there are any and no call is in progress.
    pub(super) fn begin(&mut self) -> Option<LaneBatch> {
        if self.in_call > 0 || self.queue.is_empty() {
            return None;
        }
        let size = self.call_size.min(self.queue.len());
        self.in_call = size;
        Some(LaneBatch {
            items: self.queue.drain(..size).collect(),
            retry_at: self.retry_at.take(),
            failures: self.failures,
        })
    }

    /// The call is over.
    pub(super) fn end(&mut self) {
        self.in_call = 0;
    }

    /// Something was accepted: the destination works.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.call_size = self.call_size.saturating_mul(2).min(self.call_size_max);
    }

    /// The call failed; the next one has to wait.
    pub(super) fn failed(&mut self, retry_at: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(retry_at);
    }

    /// The call failed and its messages were given up.
    pub(super) fn gave_up(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// One of `size` messages is at fault, and the next call shall say in which half it is.
    pub(super) fn narrow(&mut self, size: usize) {
        self.call_size = (size / 2).max(1);
    }

    /// Puts messages back before all others.
    pub(super) fn put_back(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            self.queue.push_front(item);
        }
    }

    /// Takes out what `matches`, and keeps the order of both parts.
    pub(super) fn take_matching(&mut self, matches: impl Fn(&Item) -> bool) -> Vec<Item> {
        let mut taken = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            if matches(&item) {
                taken.push(item);
            } else {
                self.queue.push_back(item);
            }
        }
        taken
    }
}
