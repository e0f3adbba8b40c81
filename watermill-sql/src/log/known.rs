//! [`Known`]: the position of a lease, as those know it who renew it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::position::Position;

/// What was recorded last in a term of ownership. A renewal compares it, whoever sends that.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Position>);

impl Known {
    pub(crate) fn new(position: Position) -> Self {
        Self(Mutex::new(position))
    }

    /// The position was recorded.
    pub(crate) fn advance(&self, position: Position) {
        *self.lock() = position;
    }

    pub(crate) fn position(&self) -> Position {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
