//! [`Trouble`]: errors on a subscription's stream, for as long as they last.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last error of a stream that has delivered nothing since: what the handler's health shows.
#[derive(Debug, Default)]
pub(in crate::router) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// The error, in words; `None` while all is well.
    pub(in crate::router) fn current(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn set(&self, error: String) {
        *self.lock() = Some(error);
    }

    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
