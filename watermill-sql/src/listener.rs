//! [`Listener`]: listens for what other processes publish, for all subscriptions of a subscriber.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::Pool;
use tokio_util::sync::DropGuard;
use watermill_core::Backoff;

use crate::dialect::Dialect;

/// How one database wakes readers of what other processes publish.
pub trait ListenDialect: Dialect {
    /// Begins to wake readers of what other processes publish, until the listener is dropped; `None` where the
    /// database tells nobody. Called within a runtime, once for all subscriptions of a subscriber.
    fn listen(_pool: &Pool<Self>, _retry: Backoff) -> Option<Listener> {
        None
    }
}

/// Ends the listening of [`ListenDialect::listen`] when it is dropped.
#[derive(Debug)]
pub struct Listener {
    _listening: DropGuard,
}

impl Listener {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "other databases tell nobody"))]
    pub(crate) fn new(listening: DropGuard) -> Self {
        Self { _listening: listening }
    }
}

/// The listener that subscriptions share: it is there while one of them is. Clones share it too.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedListener(Arc<Mutex<Weak<Listener>>>);

impl SharedListener {
    /// The listener that there is, or a new one where the database tells anybody. Called within a runtime.
    pub(crate) fn get<D: ListenDialect>(&self, pool: &Pool<D>, retry: Backoff) -> Option<Arc<Listener>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match shared.upgrade() {
            Some(listener) => listener,
            None => Arc::new(D::listen(pool, retry)?),
        };
        *shared = Arc::downgrade(&listener);
        Some(listener)
    }
}
