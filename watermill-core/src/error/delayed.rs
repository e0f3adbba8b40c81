//! [`Delayed`]: an error that says when its message should be tried again.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use super::BoxError;

const LIFETIME: Duration = Duration::from_secs(50 * 365 * 24 * 60 * 60);

/// An error, and when its message should be tried again.
///
/// It speaks with the text of the error it carries, which is its source too. The
/// [`DelayOnError`](crate::middleware::DelayOnError) layer makes it, and a
/// [`DeadLetter`](crate::DeadLetter) writes its delay into the metadata.
#[derive(Debug)]
pub struct Delayed {
    delay: Duration,
    until: SystemTime,
    error: BoxError,
}

impl Delayed {
    /// Attaches a delay, from now by this machine's clock.
    pub fn new(error: impl Into<BoxError>, delay: Duration) -> Self {
        Self::since(error, delay, SystemTime::now())
    }

    pub(crate) fn since(error: impl Into<BoxError>, delay: Duration, now: SystemTime) -> Self {
        // Longer than a clock can count is as good as a lifetime.
        Self { delay, until: now + delay.min(LIFETIME), error: error.into() }
    }

    /// How long to wait.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// When the wait is over.
    pub fn until(&self) -> SystemTime {
        self.until
    }
}

impl fmt::Display for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Delayed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}
