//! [`RestartPolicy`]: what becomes of a handler that ends while its router runs.

use std::time::Duration;

use crate::Backoff;

/// When a handler is started again that ended although nobody asked it to: its subscription ended, its service
/// failed, or something panicked that is not the handling of a message.
///
/// It subscribes again, and its counts go on. Its service is the same one, or a new one where the service itself
/// had failed. By default it is tried ten times in a row, with waits that grow from 1 s to 1 min; after it has run
/// for 1 min the count begins anew. While the backend cannot be reached, it goes on trying, and no try is counted.
///
/// A handler whose subscriber or publisher was closed is not started again: that was somebody's will. Where no
/// more tries are left the handler has failed for good; the others go on, and [`run`](crate::Router::run) names it
/// at the end.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{Backoff, router::{RestartPolicy, RouterConfig}};
///
/// let restart = RestartPolicy::default().backoff(Backoff::constant(Duration::from_secs(5))).limit(3);
/// let config = RouterConfig::default().restart(restart);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestartPolicy {
    backoff: Backoff,
    limit: u32,
    reset_after: Duration,
}

impl RestartPolicy {
    /// A handler that ended stays as it is.
    pub fn never() -> Self {
        Self::default().limit(0)
    }

    /// Sets the waits before the tries.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how many tries there are in a row: ten unless set.
    #[must_use]
    pub fn limit(mut self, tries: u32) -> Self {
        self.limit = tries;
        self
    }

    /// Sets how long a handler must have run for its earlier tries to be forgotten: 1 min unless set.
    #[must_use]
    pub fn reset_after(mut self, running: Duration) -> Self {
        self.reset_after = running;
        self
    }

    /// How long to wait before each try to reach a backend.
    pub(super) fn waits(&self) -> Backoff {
        self.backoff
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        let backoff = Backoff::exponential(Duration::from_secs(1)).max(Duration::from_secs(60));
        Self { backoff, limit: 10, reset_after: Duration::from_secs(60) }
    }
}

/// The tries of one handler.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    in_a_row: u32,
}

impl Restarts {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, in_a_row: 0 }
    }

    /// How long to wait before the handler is started again, which has run for so long; `None` when it has had
    /// its tries.
    pub(super) fn next(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= self.policy.reset_after {
            self.in_a_row = 0;
        }
        if self.in_a_row >= self.policy.limit {
            return None;
        }
        let delay = self.policy.backoff.delay(self.in_a_row);
        self.in_a_row += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_in_a_row_are_limited_and_forgotten_after_a_good_while() {
        let wait = Duration::from_secs(2);
        let policy = RestartPolicy::default().backoff(Backoff::constant(wait)).limit(2);
        let mut restarts = Restarts::new(policy.reset_after(Duration::from_secs(60)));
        let (short, long) = (Duration::from_secs(59), Duration::from_secs(60));
        let tries = [short, short, long, short, short].map(|ran| restarts.next(ran));
        assert_eq!(tries, [Some(wait), Some(wait), Some(wait), Some(wait), None]);
        assert_eq!(Restarts::new(RestartPolicy::never()).next(long), None);
    }
}
