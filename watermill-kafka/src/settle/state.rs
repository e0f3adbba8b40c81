//! [`State`]: what is under the lock of a [`Shared`].

use std::collections::VecDeque;

use tokio::time::Instant;
use watermill_core::{Window, delivery::Token, error::SubscribeError, subscription::Health};

use crate::{
    assigned::{Assigned, Turn},
    error,
    ledger::{Handed, Rejected},
};

/// Errors that nobody has read yet; older ones are in the log.
const ERRORS_MAX: usize = 16;

/// A subscription, as of now.
pub(super) struct State {
    pub(super) assigned: Assigned,
    pub(super) window: Window,
    pub(super) errors: VecDeque<SubscribeError>,
    pub(super) health: Health,
    pub(super) stopped: bool,
    pub(super) ended: bool,
    /// Whether the stream waits to be woken.
    pub(super) waiting: bool,
    /// Whether somebody waits for a commit.
    pub(super) urgent: bool,
    /// To be sent to the dead-letter topic; each is in a ledger too, whose bounds are theirs.
    pub(super) dead: VecDeque<RejectedDelivery>,
}

/// A rejected message that is to be sent to the dead-letter topic.
pub(crate) struct RejectedDelivery {
    pub(crate) token: Token,
    pub(crate) rejected: Rejected,
    pub(crate) reason: String,
}

/// The next thing on the stream.
pub(crate) enum Item {
    Handed(u64, Handed),
    Error(SubscribeError),
    /// The log of this partition has gone back; see [`Shared::begin_anew`].
    Back(i32),
    Ended,
    /// Nothing, before this time or before the stream is woken.
    Nothing(Option<Instant>),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            assigned: Assigned::default(),
            window: Window::ONE,
            errors: VecDeque::new(),
            health: Health::Healthy,
            stopped: false,
            ended: false,
            waiting: false,
            urgent: false,
            dead: VecDeque::new(),
        }
    }

    #[inline]
    pub(super) fn next(&mut self, max_ahead: usize, topic: &str) -> Item {
        if let Some(error) = self.errors.pop_front() {
            return Item::Error(error);
        }
        if self.stopped || self.ended {
            return Item::Ended;
        }
        match self.assigned.next(self.window, max_ahead) {
            Turn::Handed(scope, handed) => {
                if matches!(self.health, Health::Degraded { .. }) {
                    self.health = Health::Healthy;
                }
                Item::Handed(scope, handed)
            }
            Turn::Back(partition) => Item::Back(partition),
            Turn::Failed(error) => Item::Error(error::while_reading(error).subscribing(topic)),
            Turn::Nothing(due) => Item::Nothing(due),
        }
    }

    pub(super) fn push_error(&mut self, error: SubscribeError) {
        // Once is enough for who has not read it yet.
        if self.errors.back().is_some_and(|last| last.to_string() == error.to_string()) {
            return;
        }
        if self.errors.len() == ERRORS_MAX {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }
}
