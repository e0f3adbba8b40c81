//! [`Pace`]: when one of the things that a reader does is done again after it has failed.

use std::time::Duration;

use tokio::time::Instant;

/// How often it has failed in a row, and until when the database is left alone. Each thing that a reader does has
/// its own, so that none waits for the trouble of another.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
    rest_until: Option<Instant>,
}

impl Pace {
    /// How often it has failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When it may be done that is due at `at`.
    pub(crate) fn not_before(&self, at: Instant) -> Instant {
        self.rest_until.map_or(at, |rest_until| rest_until.max(at))
    }

    /// It has failed, and is not tried again for so long. Returns how often it has failed in a row.
    pub(crate) fn failed(&mut self, rest: Duration) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.rest_until = Some(Instant::now() + rest);
        self.failures
    }

    /// It has worked; returns how often it had failed before.
    pub(crate) fn succeeded(&mut self) -> u32 {
        self.rest_until = None;
        std::mem::take(&mut self.failures)
    }
}
