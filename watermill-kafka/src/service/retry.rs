//! [`Retry`]: when something that has failed is tried again.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::Backoff;

/// The pause after the first failure.
pub(super) const FIRST: Duration = Duration::from_millis(50);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that grow with each failure in a row.
pub(super) struct Retry {
    failures: u32,
    at: Instant,
}

impl Retry {
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, at: now }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }

    /// When it is due.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// How often in a row it has failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Not before a pause, though nothing has failed.
    pub(super) fn pause(&mut self) {
        self.at = Instant::now() + FIRST;
    }

    pub(super) fn failed(&mut self) {
        self.at = Instant::now() + Backoff::exponential(FIRST).max(LONGEST).delay(self.failures);
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_until_it_works() {
        let mut retry = Retry::new(Instant::now());
        assert!(retry.is_due(Instant::now()));
        let mut wait = || {
            retry.failed();
            retry.at() - Instant::now()
        };
        let (first, second, third) = (wait(), wait(), wait());
        assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
        for _ in 0..20 {
            wait();
        }
        assert_eq!(wait(), LONGEST);
        retry.worked();
        retry.failed();
        assert!(retry.at() - Instant::now() < 2 * FIRST);
    }
}
