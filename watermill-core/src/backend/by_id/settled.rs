//! [`Settled`]: what the server is to be told of.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::{
    Message,
    backend::{Unrecorded, ledger::complete},
    delivery::{Outcome, Receipt},
    error::SettleError,
};

/// A message whose outcome the server is to be told. Dropped, its receipt says that nobody knows.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled<I> {
    /// The server's id.
    pub id: I,
    /// What became of it. What was fresh when intake stopped is nacked without a delay.
    pub outcome: Outcome,
    /// Whether it was ever handed out. If not, this is no attempt, and the server should not count it where
    /// that can be said.
    pub tried: bool,
    /// Which attempt it was, counting those here.
    pub attempt: u32,
    /// The message, for a dead letter.
    pub message: Message,
    pub(super) receipt: Option<Receipt>,
}

impl<I> Settled<I> {
    /// Says in the log that the message is dropped, if it was rejected: for a backend without dead letters.
    pub fn log_if_dropped(&self, topic: &str) {
        let Outcome::Reject { reason } = &self.outcome else { return };
        let (message, attempt) = (self.message.id().as_str(), self.attempt);
        tracing::error!(topic, message, attempt, reason, "a message was rejected and is dropped");
    }

    /// The server knows.
    pub fn recorded(self) {
        complete(self.receipt, Ok(()));
    }

    /// The server says that the message was not ours any more.
    pub fn lost(self) {
        complete(self.receipt, Err(SettleError::lost()));
    }

    /// The server cannot be told, and that is not tried again.
    pub fn failed(self, error: SettleError) {
        complete(self.receipt, Err(error));
    }
}

/// Those that were not taken yet.
#[derive(Debug)]
pub(super) struct Queue<I> {
    settled: VecDeque<Settled<I>>,
    since: Option<Instant>,
    /// How many have a receipt.
    awaited: usize,
}

impl<I> Queue<I> {
    pub(super) fn push(&mut self, settled: Settled<I>, now: Instant) {
        self.awaited += usize::from(settled.receipt.is_some());
        self.since.get_or_insert(now);
        self.settled.push_back(settled);
    }

    pub(super) fn take(&mut self, limit: usize) -> Vec<Settled<I>> {
        let taken: Vec<_> = self.settled.drain(..limit.min(self.settled.len())).collect();
        self.count();
        taken
    }

    pub(super) fn put_back(&mut self, settled: Vec<Settled<I>>, now: Instant) {
        settled.into_iter().rev().for_each(|settled| self.settled.push_front(settled));
        self.count();
        if !self.settled.is_empty() {
            self.since = Some(now);
        }
    }

    pub(super) fn lose_where(&mut self, lost: &mut impl FnMut(&I) -> bool) {
        let (gone, kept) =
            std::mem::take(&mut self.settled).into_iter().partition(|settled| lost(&settled.id));
        self.settled = kept;
        self.count();
        let gone: VecDeque<_> = gone;
        gone.into_iter().for_each(Settled::lost);
    }

    pub(super) fn fail(&mut self, why: fn() -> SettleError) {
        let settled = std::mem::take(&mut self.settled);
        self.count();
        settled.into_iter().for_each(|settled| settled.failed(why()));
    }

    pub(super) fn unrecorded(&self) -> Unrecorded {
        Unrecorded { count: self.settled.len(), since: self.since, awaited: self.awaited > 0 }
    }

    fn count(&mut self) {
        self.awaited = self.settled.iter().filter(|settled| settled.receipt.is_some()).count();
        if self.settled.is_empty() {
            self.since = None;
        }
    }
}

impl<I> Default for Queue<I> {
    fn default() -> Self {
        Self { settled: VecDeque::new(), since: None, awaited: 0 }
    }
}
