//! [`Incoming`] and [`InHand`]: how messages come into the ledger, and what can be seen of them there.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::SystemTime,
};

use tokio::time::Instant;

use crate::Message;

/// A message that has come.
#[derive(Debug)]
pub struct Incoming<I> {
    pub(super) id: I,
    pub(super) message: Message,
    pub(super) scope: u64,
    pub(super) attempt: u32,
    pub(super) redelivered: bool,
    pub(super) published_at: Option<SystemTime>,
}

/// A message in hand, for a task that extends deadlines.
#[derive(Debug)]
#[non_exhaustive]
pub struct InHand<'l, I> {
    /// The server's id.
    pub id: &'l I,
    /// When it was pushed.
    pub since: Instant,
    /// Whether it is outstanding.
    pub outstanding: bool,
}

impl<I> Incoming<I> {
    /// A message, by the id that the server settles it by.
    pub fn new(id: I, message: Message) -> Self {
        Self { id, message, scope: 0, attempt: 1, redelivered: false, published_at: None }
    }

    /// Sets its ordering scope: within one, messages are handed out in the order in which they came. Unless
    /// set, all are of one. See [`key_scope`].
    #[must_use]
    pub fn scope(mut self, scope: u64) -> Self {
        self.scope = scope;
        self
    }

    /// Sets which delivery this is, from 1, where the server counts.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt.max(1);
        self
    }

    /// Says that the server may have delivered it before.
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Sets when it was published, by the server's clock.
    #[must_use]
    pub fn published_at(mut self, published_at: Option<SystemTime>) -> Self {
        self.published_at = published_at;
        self
    }
}

/// The ordering scope of an ordering key. Two keys may share one, seldom: then they wait for each other, and
/// each keeps its order.
pub fn key_scope(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
