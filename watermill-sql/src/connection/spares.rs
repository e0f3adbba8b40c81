//! [`Spares`]: connections for whoever publishes again in a moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::Pool;
use tokio::time::{Instant, sleep_until};

use super::{ConnectionDialect, IDLE_MAX, Pooled};

/// Connections that were used a moment ago, in which no transaction is open: for the next statement the pool need not
/// ask the server whether they live, nor we whether somebody has forgotten a transaction.
///
/// None is kept for long, and none while others may have to wait for it.
pub(crate) struct Spares<D: ConnectionDialect> {
    pool: Pool<D>,
    shelf: Arc<Mutex<Shelf<D>>>,
}

struct Shelf<D: ConnectionDialect> {
    /// Each with the time when it goes back.
    kept: Vec<(Pooled<D>, Instant)>,
    /// Whether a task sees to that.
    is_watched: bool,
}

impl<D: ConnectionDialect> Spares<D> {
    pub(crate) fn new(pool: Pool<D>) -> Self {
        Self { pool, shelf: Arc::new(Mutex::new(Shelf { kept: Vec::new(), is_watched: false })) }
    }

    /// The one that was used last.
    pub(crate) fn take(&self) -> Option<Pooled<D>> {
        let spare = lock(&self.shelf).kept.pop();
        spare.map(|(pooled, _)| pooled).filter(|_| !self.pool.is_closed())
    }

    /// Keeps one whose last statement was answered, or gives it back.
    pub(crate) fn keep(&self, mut pooled: Pooled<D>) {
        pooled.settled();
        let now = Instant::now();
        if !pooled.may_be_kept(&self.pool, now) {
            return;
        }
        let mut shelf = lock(&self.shelf);
        shelf.kept.push((pooled, now + IDLE_MAX));
        if !std::mem::replace(&mut shelf.is_watched, true) {
            tokio::spawn(Watch(self.shelf.clone()).give_back());
        }
    }

    /// Gives all back.
    pub(crate) fn clear(&self) {
        lock(&self.shelf).kept.clear();
    }
}

/// Gives back what nobody takes. It ends with the last one, and what there is goes back if it is ended before, as
/// with its runtime.
struct Watch<D: ConnectionDialect>(Arc<Mutex<Shelf<D>>>);

impl<D: ConnectionDialect> Watch<D> {
    async fn give_back(self) {
        while let Some(until) = self.next() {
            sleep_until(until).await;
        }
    }

    /// When the next one goes back.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut shelf = lock(&self.0);
        shelf.kept.retain(|(_, until)| now < *until);
        let next = shelf.kept.iter().map(|(_, until)| *until).min();
        shelf.is_watched = next.is_some();
        next
    }
}

impl<D: ConnectionDialect> Drop for Watch<D> {
    fn drop(&mut self) {
        let mut shelf = lock(&self.0);
        shelf.kept.clear();
        shelf.is_watched = false;
    }
}

fn lock<D: ConnectionDialect>(shelf: &Mutex<Shelf<D>>) -> MutexGuard<'_, Shelf<D>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
