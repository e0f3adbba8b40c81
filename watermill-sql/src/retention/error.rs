//! [`RetentionError`]: why rows stayed that could have been deleted.

use std::{error::Error, fmt};

use watermill_core::error::BoxError;

/// A run that ended early. What it had deleted until then stays deleted, and nothing else is lost: the
/// next run goes on.
#[derive(Debug)]
pub struct RetentionError {
    pub(crate) kind: RetentionErrorKind,
    pub(crate) topic: String,
    pub(crate) detail: Option<String>,
    pub(crate) source: Option<BoxError>,
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
