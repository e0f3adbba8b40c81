//! [`Failure`]: what a native error means, in terms of what to do about it.

use crate::error::{BoxError, PublishError, PublishErrorKind, SubscribeError, SubscribeErrorKind, chain};

/// What is wrong, in terms of what to do about it: the class that a backend's `error.rs` finds for each
/// native error. The tables below are the only place where a class becomes the kind of an error.
///
/// | class | publishing | subscribing |
/// |---|---|---|
/// | `Unavailable`, `Conflict` | `Unavailable` | `Unavailable` |
/// | `Timeout` | `Timeout` | `Unavailable` |
/// | `Topic` | `Topic` | `Topic` |
/// | `Message` | `Message` | `Refused` |
/// | `Config` | `Refused` | `Config` |
/// | `Unsupported` | `Unsupported` | `Unsupported` |
/// | `Closed` | `Closed` | `Closed` |
/// | `Fenced` | `Fenced` | `Refused` |
/// | `Mismatch`, `Refused` | `Refused` | `Refused` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trouble {
    /// Nobody home, busy, or over a quota that is refilled: it passes.
    Unavailable,
    /// No word in time: what was asked for may have been done. It passes.
    Timeout,
    /// Two were in each other's way, and this one is to do all of it again: a deadlock, a serialisation that
    /// failed, a transaction that was aborted. It passes.
    Conflict,
    /// The topic is missing, or cannot be one.
    Topic,
    /// What is there is not what was expected, or is missing: a table, a queue with other arguments.
    Mismatch,
    /// This message cannot be held: it is too large, or not of the kind that fits.
    Message,
    /// The configuration cannot work.
    Config,
    /// The server does not do what was asked.
    Unsupported,
    /// What the caller owns, a pool or a client, was closed.
    Closed,
    /// Somebody else of the same name has begun.
    Fenced,
    /// For good, until somebody has changed something: permissions above all.
    Refused,
}

/// A native error, or a finding of the backend's own, and what it means.
#[derive(Debug)]
pub struct Failure {
    trouble: Trouble,
    detail: Option<String>,
    source: Option<BoxError>,
}

impl Trouble {
    /// Whether it may be gone at the next try, without anybody doing anything.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Conflict)
    }

    fn publishing(self) -> PublishErrorKind {
        match self {
            Self::Unavailable | Self::Conflict => PublishErrorKind::Unavailable,
            Self::Timeout => PublishErrorKind::Timeout,
            Self::Topic => PublishErrorKind::Topic,
            Self::Message => PublishErrorKind::Message,
            Self::Unsupported => PublishErrorKind::Unsupported,
            Self::Closed => PublishErrorKind::Closed,
            Self::Fenced => PublishErrorKind::Fenced,
            Self::Config | Self::Mismatch | Self::Refused => PublishErrorKind::Refused,
        }
    }

    fn subscribing(self) -> SubscribeErrorKind {
        match self {
            Self::Unavailable | Self::Timeout | Self::Conflict => SubscribeErrorKind::Unavailable,
            Self::Topic => SubscribeErrorKind::Topic,
            Self::Config => SubscribeErrorKind::Config,
            Self::Unsupported => SubscribeErrorKind::Unsupported,
            Self::Closed => SubscribeErrorKind::Closed,
            Self::Message | Self::Fenced | Self::Mismatch | Self::Refused => SubscribeErrorKind::Refused,
        }
    }
}

impl Failure {
    /// A native error, classified.
    pub fn new(trouble: Trouble, source: impl Into<BoxError>) -> Self {
        Self { trouble, detail: None, source: Some(source.into()) }
    }

    /// A finding of the backend's own, as a lowercase fragment.
    pub fn because(trouble: Trouble, detail: impl Into<String>) -> Self {
        Self { trouble, detail: Some(detail.into()), source: None }
    }

    /// Says what exactly was wrong and what to do about it, as a lowercase fragment.
    #[must_use]
    pub fn explained(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The same, with another meaning.
    #[must_use]
    pub fn with_trouble(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// What it means.
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// Whether it may be gone at the next try.
    pub fn is_passing(&self) -> bool {
        self.trouble.is_passing()
    }

    /// As the failure of a call to publish, of which nothing was accepted.
    pub fn publishing(self, topic: &str) -> PublishError {
        let mut error = PublishError::new(self.trouble.publishing(), topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// As the failure of a subscription.
    pub fn subscribing(self, topic: &str) -> SubscribeError {
        let mut error = SubscribeError::new(self.trouble.subscribing(), topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// Takes it apart, for errors that the core does not know: detail and source.
    pub fn into_parts(self) -> (Option<String>, Option<BoxError>) {
        (self.detail, self.source)
    }

    /// What went wrong, on one line, for logs and health.
    pub fn text(&self) -> String {
        let source = self.source.as_ref().map(|source| chain(&**source));
        match (&self.detail, source) {
            (Some(detail), Some(source)) => format!("{detail}: {source}"),
            (Some(detail), None) => detail.clone(),
            (None, Some(source)) => source,
            (None, None) => "unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_retryable_on_both_sides_and_nothing_else_is() {
        for trouble in [
            Trouble::Unavailable,
            Trouble::Timeout,
            Trouble::Conflict,
            Trouble::Topic,
            Trouble::Mismatch,
            Trouble::Message,
            Trouble::Config,
            Trouble::Unsupported,
            Trouble::Closed,
            Trouble::Fenced,
            Trouble::Refused,
        ] {
            let failure = || Failure::because(trouble, "no");
            assert_eq!(failure().publishing("t").is_retryable(), trouble.is_passing(), "{trouble:?}");
            assert_eq!(failure().subscribing("t").is_retryable(), trouble.is_passing(), "{trouble:?}");
        }
    }
}
