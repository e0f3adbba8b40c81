//! [`Turns`]: which subscription has the messages, where one has them all.

use std::collections::VecDeque;

/// The subscriptions that run, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether it matters.
    pub(super) exclusive: bool,
    order: VecDeque<u64>,
}

impl Turns {
    pub(super) fn join(&mut self, subscription: u64) {
        self.order.push_back(subscription);
    }

    pub(super) fn leave(&mut self, subscription: u64) {
        self.order.retain(|other| *other != subscription);
    }

    /// Whether messages may be handed out to this one.
    pub(super) fn is_on(&self, subscription: u64) -> bool {
        !self.exclusive || self.order.front() == Some(&subscription)
    }

    /// Ends a turn, and begins that of the next.
    pub(super) fn pass(&mut self) {
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
    }
}
