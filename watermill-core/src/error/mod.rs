//! One error type for each boundary: publishing, subscribing, settling, building a router, running it.
//!
//! Each has a `kind()` to match on, says whether trying again can help, and keeps the native error as
//! its `source()`. Texts are fragments that read after "failed to ..."; they do not repeat their
//! source, so print an error with [`chain`].

mod config;
mod delayed;
mod nack;
mod panicked;
mod publish;
mod settle;
mod subscribe;
mod verdict;

pub use config::ConfigError;
pub use delayed::Delayed;
pub use nack::Nack;
pub use panicked::Panicked;
pub use publish::{NotAccepted, PublishError, PublishErrorKind};
pub use settle::{SettleError, SettleErrorKind};
pub use subscribe::{SubscribeError, SubscribeErrorKind};
pub(crate) use verdict::Classifier;
pub use verdict::Verdict;

use std::{error::Error, fmt};

/// Any error, boxed: what handlers and layers may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Marks an error that trying again cannot mend.
///
/// A [`FailurePolicy`](crate::FailurePolicy) and the [`Retry`](crate::middleware::Retry) layer give
/// up on it at once. Extractors wrap their rejections in it: a payload that does not decode today
/// does not decode tomorrow.
///
/// ```
/// use watermill_core::error::{BoxError, Permanent};
///
/// fn charge(cents: i64) -> Result<(), BoxError> {
///     if cents < 0 {
///         return Err(Permanent::new("a negative amount cannot be charged").into());
///     }
///     Ok(())
/// }
/// assert!(Permanent::is(&*charge(-1).unwrap_err()));
/// ```
#[derive(Debug)]
pub struct Permanent(BoxError);

impl Permanent {
    /// Wraps an error or a text.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// Whether `error`, or one of its sources, is permanent.
    pub fn is(error: &(dyn Error + 'static)) -> bool {
        find::<Self>(error).is_some()
    }

    /// The error that was wrapped, to look into.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// The error that was wrapped.
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Permanent {
    /// The wrapped error's own source: the wrapper speaks with its text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The first error of type `E` among `error`, its sources, and what a [`Permanent`] or a [`Nack`] wraps.
pub fn find<'e, E: Error + 'static>(mut error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    loop {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        error = if let Some(Permanent(wrapped)) = error.downcast_ref() {
            &**wrapped
        } else if let Some(nack) = error.downcast_ref::<Nack>() {
            nack.get_ref()
        } else {
            error.source()?
        };
    }
}

/// An error with its sources, on one line: `publish to "orders": connection refused`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let fragment = source.to_string();
        // Foreign errors that show their source already would say everything twice.
        if !text.ends_with(&fragment) {
            text.push_str(": ");
            text.push_str(&fragment);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permanent_error_is_found_behind_other_errors() {
        #[derive(Debug)]
        struct Outer(Permanent);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(Permanent::new("inner"));
        assert!(Permanent::is(&error));
        assert!(!Permanent::is(&fmt::Error));
        assert_eq!(chain(&error), "outer: inner");
    }
}
