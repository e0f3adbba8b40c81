//! [`Transport`]: the talk with a server that settles messages by id, and [`run`], the task around it.

mod run;

pub use run::run;

use std::{future::pending, hash::Hash, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Failure, Incoming, Settled};
use crate::Backoff;

/// What a backend with the ledger [`ById`](super::ById) knows of its server: how messages come, and how the
/// server is told what became of them. [`run`] does the rest: when to fetch and how much, recording in
/// batches, extending, growing waits after errors, health, and the graceful end.
///
/// Fetching goes on side by side with recording and extending, and each of the three by itself one call after
/// another. No future is dropped before it is ready but at the end, when the time for it is over; every one
/// must end by itself, within a bounded time.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// What the server settles a message by.
    type Id: Clone + Eq + Hash + Send + Sync + 'static;

    /// Fetches up to `room` messages; fewer, or none, when there are not more. A server that can be asked to
    /// wait for messages may be waited for, until `closing` is cancelled.
    ///
    /// # Errors
    ///
    /// Whatever is wrong. It is tried again with growing waits, unless the trouble is
    /// [`Closed`](super::Trouble::Closed), which ends the subscription.
    async fn fetch(
        &self,
        room: usize,
        closing: &CancellationToken,
    ) -> Result<Vec<Incoming<Self::Id>>, Failure>;

    /// Tells the server. What it refuses because the message is not ours any more is taken out and
    /// [lost](Settled::lost). On `Ok` the rest is recorded; on an error nothing that is left in `settled` is, and
    /// comes again with the next call.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    async fn record(&self, settled: &mut Vec<Settled<Self::Id>>) -> Result<(), Failure>;

    /// Keeps messages from running out, and returns those that are not ours any more. Called every third of
    /// [`lease`](TransportOptions::lease), with all that are in hand.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    async fn extend(&self, in_hand: Vec<Self::Id>) -> Result<Vec<Self::Id>, Failure> {
        drop(in_hand);
        Ok(Vec::new())
    }

    /// Ready when there may be something to fetch before the next poll. Dropped and called again at will.
    async fn wake(&self) {
        pending::<()>().await;
    }

    /// The last call, after everything is recorded: lets go of connections.
    async fn close(&self) {}
}

/// How [`run`] works.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The shortest pause after a fetch that found fewer messages than there was room for. Default: 5 ms.
    pub poll_interval_min: Duration,
    /// The longest pause: it doubles while nothing comes. Default: 250 ms.
    pub poll_interval_max: Duration,
    /// Whether a fetch waits for messages by itself: then it is called again at once when it has found any, and after a
    /// millisecond otherwise. Default: false.
    pub fetch_waits: bool,
    /// How long the server keeps a message for us after a fetch or an extension; nothing is handed out later.
    /// `None`, the default, is for ever.
    pub lease: Option<Duration>,
    /// How many outcomes are recorded in one call. Default: 1,000.
    pub record_max: usize,
    /// The waits after errors. Default: [`Backoff::default`].
    pub retry: Backoff,
    /// How long the graceful end may take. To be less than
    /// [`close_timeout`](super::SharedOptions::close_timeout). Default: 10 seconds.
    pub close_timeout: Duration,
}

impl TransportOptions {
    /// Says that a [fetch waits](Self::fetch_waits) for messages by itself.
    #[must_use]
    pub fn fetch_waits(mut self) -> Self {
        // What returns nothing has to have waited; where it has not, for whatever reason, this keeps it from running hot.
        const PAUSE: Duration = Duration::from_millis(1);
        self.fetch_waits = true;
        self.poll_interval(PAUSE, PAUSE)
    }

    /// Sets [`poll_interval_min`](Self::poll_interval_min) and [`poll_interval_max`](Self::poll_interval_max).
    #[must_use]
    pub fn poll_interval(mut self, min: Duration, max: Duration) -> Self {
        (self.poll_interval_min, self.poll_interval_max) = (min, max);
        self
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn lease(mut self, lease: Option<Duration>) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`record_max`](Self::record_max).
    #[must_use]
    pub fn record_max(mut self, outcomes: usize) -> Self {
        self.record_max = outcomes;
        self
    }

    /// Sets [`retry`](Self::retry).
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets [`close_timeout`](Self::close_timeout).
    #[must_use]
    pub fn close_timeout(mut self, at_most: Duration) -> Self {
        self.close_timeout = at_most;
        self
    }
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            poll_interval_min: Duration::from_millis(5),
            poll_interval_max: Duration::from_millis(250),
            fetch_waits: false,
            lease: None,
            record_max: 1_000,
            retry: Backoff::default(),
            close_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests;
