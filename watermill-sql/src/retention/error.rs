//! [`RetentionError`]: why rows stayed that could have been deleted.

use std::{error::Error, fmt};

use watermill_core::error::BoxError;

use crate::error::{Failure, Trouble};

/// A run that ended early. What it had deleted until then stays deleted, and nothing else is lost: the
/// next run goes on.
#[derive(Debug)]
pub struct RetentionError {
    kind: RetentionErrorKind,
    topic: String,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetentionErrorKind {
    /// The topic makes no table name, or the table of that name is not Watermill's.
    Topic,
    /// The database could not be reached, or was busy: try again.
    Unavailable,
    /// The pool was closed.
    Closed,
    /// The database refused, for want of permission for instance.
    Refused,
}

impl RetentionError {
    pub(super) fn new(failure: Failure, topic: &str) -> Self {
        let kind = match failure.trouble() {
            Trouble::Topic => RetentionErrorKind::Topic,
            Trouble::Closed => RetentionErrorKind::Closed,
            trouble if trouble.is_passing() => RetentionErrorKind::Unavailable,
            _ => RetentionErrorKind::Refused,
        };
        let (detail, source) = failure.into_parts();
        Self { kind, topic: topic.to_owned(), detail, source }
    }

    /// What is wrong.
    pub fn kind(&self) -> RetentionErrorKind {
        self.kind
    }

    /// The topic whose rows were to be deleted.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether another run may succeed without anybody having changed anything.
    pub fn is_retryable(&self) -> bool {
        self.kind == RetentionErrorKind::Unavailable
    }
}

impl fmt::Display for RetentionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete old rows of {:?}: ", self.topic)?;
        f.write_str(match self.kind {
            RetentionErrorKind::Topic => "the topic cannot be used",
            RetentionErrorKind::Unavailable => "the database is unavailable",
            RetentionErrorKind::Closed => "the pool is closed",
            RetentionErrorKind::Refused => "the database refused",
        })?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for RetentionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
