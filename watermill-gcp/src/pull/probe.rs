//! [`Probe`]: asks the service whether it is there, while no message comes.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;
use watermill_core::{Backoff, backend::Failure};

use super::{if_there, intake::Intake};
use crate::subscriptions::Subscriptions;

/// See above.
pub(super) struct Probe {
    interval: Duration,
    retry: Backoff,
    at: Instant,
    /// How often in a row there was no answer.
    failures: u32,
    asking: Option<BoxFuture<'static, Result<(), Failure>>>,
}

impl Probe {
    /// With an interval of zero it never asks.
    pub(super) fn new(interval: Duration, retry: Backoff, now: Instant) -> Self {
        Self { interval, retry, at: now + interval, failures: 0, asking: None }
    }

    /// When to ask next, if nothing is heard.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.interval.is_zero() && self.asking.is_none()).then_some(self.at)
    }

    /// Asks, if it is time to, and a stream is to be open.
    pub(super) fn begin(
        &mut self,
        intake: &Intake,
        subscriptions: &Arc<Subscriptions>,
        name: &str,
        now: Instant,
    ) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        if !matches!(intake, Intake::Open(_)) {
            self.at = now + self.interval;
            return;
        }
        let (subscriptions, name) = (subscriptions.clone(), name.to_owned());
        self.asking = Some(async move { subscriptions.look(&name).await.map(drop) }.boxed());
    }

    /// What the service says; without end where it is not asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub(super) async fn found(&mut self) -> Result<(), Failure> {
        let found = if_there(self.asking.as_mut()).await;
        self.asking = None;
        found
    }

    /// A message has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.at = now + self.interval;
        self.failures = 0;
    }

    /// There was an answer. Whether there was none before.
    pub(super) fn worked(&mut self, now: Instant) -> bool {
        self.at = now + self.interval;
        std::mem::take(&mut self.failures) > 0
    }

    pub(super) fn failed(&mut self, now: Instant) {
        // The next is asked for soon, or the stream would wait for a service that is there.
        self.at = now + self.retry.delay(self.failures).min(self.interval);
        self.failures = self.failures.saturating_add(1);
    }
}
