//! The only mapping from native errors to those of the core, with what is retryable.

use watermill_core::error::{BoxError, PublishError, PublishErrorKind, SubscribeError, SubscribeErrorKind};

use crate::{RetentionError, RetentionErrorKind, dialect::Dialect};

/// What is wrong, in terms of what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody home, or busy: try again.
    Unavailable,
    /// The caller's transaction cannot go on; run all of it again.
    Transaction,
    /// A statement does not fit the tables: one is missing, or not ours.
    Statement,
    /// The topic cannot be used.
    Topic,
    /// A row is too large.
    Message,
    /// The pool was closed.
    Closed,
    /// For good, until somebody has changed something.
    Refused,
}

/// A native error, or a finding of our own, and what is wrong.
#[derive(Debug)]
pub struct Failure {
    pub(crate) trouble: Trouble,
    detail: Option<String>,
    source: Option<BoxError>,
}

impl Failure {
    /// What a native error means.
    pub(crate) fn of<D: Dialect>(error: sqlx::Error) -> Self {
        let trouble = match &error {
            sqlx::Error::Database(error) => D::trouble(&**error),
            sqlx::Error::PoolClosed => Trouble::Closed,
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed => Trouble::Unavailable,
            _ => Trouble::Refused,
        };
        let detail = (trouble == Trouble::Transaction)
            .then(|| format!("the transaction cannot go on: roll back and run all of it again{}", D::AGAIN));
        Self { trouble, detail, source: Some(error.into()) }
    }

    /// A finding of our own.
    pub(crate) fn because(trouble: Trouble, detail: impl Into<String>) -> Self {
        Self { trouble, detail: Some(detail.into()), source: None }
    }

    /// The same, with what to do about it.
    pub(crate) fn explained(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// As the failure of a call to publish. Nothing of the call was accepted.
    pub(crate) fn publishing(self, topic: &str) -> PublishError {
        let kind = match self.trouble {
            Trouble::Unavailable | Trouble::Transaction => PublishErrorKind::Unavailable,
            Trouble::Topic => PublishErrorKind::Topic,
            Trouble::Message => PublishErrorKind::Message,
            Trouble::Closed => PublishErrorKind::Closed,
            Trouble::Statement | Trouble::Refused => PublishErrorKind::Refused,
        };
        let mut error = PublishError::new(kind, topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// As the failure of a subscription.
    pub(crate) fn subscribing(self, topic: &str) -> SubscribeError {
        let kind = match self.trouble {
            Trouble::Unavailable | Trouble::Transaction => SubscribeErrorKind::Unavailable,
            Trouble::Topic => SubscribeErrorKind::Topic,
            Trouble::Closed => SubscribeErrorKind::Closed,
            Trouble::Message | Trouble::Statement | Trouble::Refused => SubscribeErrorKind::Refused,
        };
        let mut error = SubscribeError::new(kind, topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// As the failure of a run of retention.
    pub(crate) fn retaining(self, topic: &str) -> RetentionError {
        let kind = match self.trouble {
            Trouble::Unavailable | Trouble::Transaction => RetentionErrorKind::Unavailable,
            Trouble::Topic => RetentionErrorKind::Topic,
            Trouble::Closed => RetentionErrorKind::Closed,
            Trouble::Message | Trouble::Statement | Trouble::Refused => RetentionErrorKind::Refused,
        };
        RetentionError { kind, topic: topic.to_owned(), detail: self.detail, source: self.source }
    }

    /// What went wrong, on one line.
    pub(crate) fn text(&self) -> String {
        match (&self.detail, &self.source) {
            (Some(detail), Some(source)) => format!("{detail}: {source}"),
            (Some(detail), None) => detail.clone(),
            (None, Some(source)) => source.to_string(),
            (None, None) => "unknown".to_owned(),
        }
    }
}
