//! [`Ear`]: hears what other processes publish, for all subscriptions of a subscriber.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::Pool;
use tokio_util::sync::DropGuard;
use watermill_core::Backoff;

use crate::dialect::Dialect;

/// Ends the listening of [`Dialect::listen`] when it is dropped.
#[derive(Debug)]
pub struct Ear {
    _listening: DropGuard,
}

impl Ear {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "other databases tell nobody"))]
    pub(crate) fn new(listening: DropGuard) -> Self {
        Self { _listening: listening }
    }
}

/// The ear that subscriptions share: it is there while one of them is. Clones share it too.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedEar(Arc<Mutex<Weak<Ear>>>);

impl SharedEar {
    /// The ear that there is, or a new one where the database tells anybody. Called within a runtime.
    pub(crate) fn get<D: Dialect>(&self, pool: &Pool<D>, retry: Backoff) -> Option<Arc<Ear>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ear = match shared.upgrade() {
            Some(ear) => ear,
            None => Arc::new(D::listen(pool, retry)?),
        };
        *shared = Arc::downgrade(&ear);
        Some(ear)
    }
}
