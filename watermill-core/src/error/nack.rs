//! [`Nack`]: an error that is nobody's fault.

use std::{error::Error, fmt, time::Duration};

use super::{BoxError, find};

/// Marks an error that says "not now": the message is given back, and nothing is held against it.
///
/// Wherever such an error passes, no try is counted, and its message is neither dead-lettered, rejected nor
/// dropped, whatever a [`FailurePolicy`](crate::FailurePolicy) ends with and in whatever order layers stand.
/// The message is nacked and comes again, after the policy's delay for nacks. Functions that classify errors
/// are not asked about it. It is [`Verdict::Nack`](super::Verdict::Nack) as an error, and stronger than
/// [`Permanent`](super::Permanent).
///
/// The backend counts the delivery like any other, so a later failure of the message has a larger
/// [attempt](crate::DeliveryInfo::attempt). Nothing bounds how often a message is given back: mark only what
/// ends without the message's doing.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::error::{BoxError, Nack};
///
/// fn charge(bank_is_open: bool) -> Result<(), BoxError> {
///     if !bank_is_open {
///         return Err(Nack::new("the bank is closed").after(Duration::from_secs(600)).into());
///     }
///     Ok(())
/// }
/// assert!(Nack::is(&*charge(false).unwrap_err()));
/// ```
#[derive(Debug)]
pub struct Nack {
    error: BoxError,
    after: Duration,
}

impl Nack {
    /// Wraps an error or a text.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), after: Duration::ZERO }
    }

    /// Sets the least time that the message stays away. The router's own delay for nacks holds too: the
    /// longer one counts, so that a short one here makes no hot loop.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Whether `error`, or one of its sources, is one.
    pub fn is(error: &(dyn Error + 'static)) -> bool {
        find::<Self>(error).is_some()
    }

    /// The least time that the message stays away; zero unless it was set.
    pub fn delay(&self) -> Duration {
        self.after
    }

    /// The error that was wrapped, to look into.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Nack {
    /// The wrapped error's own source: the wrapper speaks with its text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
