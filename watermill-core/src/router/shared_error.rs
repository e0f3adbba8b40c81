//! [`SharedError`]: one error for many messages.

use std::{error::Error, fmt, sync::Arc};

use crate::error::BoxError;

/// What went wrong for several messages together. The error itself is the [source](Error::source), where whoever
/// classifies errors finds it.
#[derive(Clone)]
pub(super) struct SharedError {
    /// What failed, as a text that reads after "failed to".
    what: &'static str,
    error: Arc<BoxError>,
}

impl SharedError {
    pub(super) fn new(what: &'static str, error: impl Into<BoxError>) -> Self {
        Self { what, error: Arc::new(error.into()) }
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.error)
    }
}
