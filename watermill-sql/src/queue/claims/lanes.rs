//! [`Lanes`]: what is in hand of each key, and whose turn it is.

use std::collections::{HashMap, VecDeque};

/// The keys that have something in hand. Rows are named by their sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<i64, Lane>);

#[derive(Debug, Default)]
struct Lane {
    /// Not to be handed out yet, in order.
    waiting: VecDeque<u64>,
    /// How many may be handed out, or are and are not handled.
    busy: usize,
}

impl Lanes {
    /// Adds a row behind all others of its key.
    pub(super) fn push(&mut self, key: i64, sequence: u64) {
        self.0.entry(key).or_default().waiting.push_back(sequence);
    }

    /// The next row of a key that may be handed out beside `most - 1` others of it.
    pub(super) fn advance(&mut self, key: i64, most: usize) -> Option<u64> {
        let lane = self.0.get_mut(&key)?;
        if lane.busy >= most {
            return None;
        }
        let next = lane.waiting.pop_front()?;
        lane.busy += 1;
        Some(next)
    }

    /// Whether more of a key might be handed out than is there, `most` at a time.
    pub(super) fn lacks(&self, key: i64, most: usize) -> bool {
        self.0.get(&key).is_none_or(|lane| lane.waiting.is_empty() && lane.busy < most)
    }

    /// A row that might be handed out is not any more, or is handled.
    pub(super) fn leave(&mut self, key: i64) {
        if let Some(lane) = self.0.get_mut(&key) {
            lane.busy -= 1;
        }
        self.forget_if_idle(key);
    }

    /// Takes a row back that could be handed out and was not: it waits again before the others of its key.
    pub(super) fn put_back(&mut self, key: i64, sequence: u64) {
        let lane = self.0.entry(key).or_default();
        lane.busy -= 1;
        lane.waiting.push_front(sequence);
    }

    /// Takes out all that wait in a key, in order.
    pub(super) fn take_waiting(&mut self, key: i64) -> Vec<u64> {
        let waiting = self.0.get_mut(&key).map(|lane| std::mem::take(&mut lane.waiting));
        self.forget_if_idle(key);
        waiting.unwrap_or_default().into()
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: i64) {
        self.0.remove(&key);
    }

    /// The keys.
    pub(super) fn keys(&self) -> Vec<i64> {
        self.0.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn forget_if_idle(&mut self, key: i64) {
        if self.0.get(&key).is_some_and(|lane| lane.busy == 0 && lane.waiting.is_empty()) {
            self.0.remove(&key);
        }
    }
}
