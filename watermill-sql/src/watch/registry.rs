//! Which watches there are: one for each pool.

use std::{
    any::Any,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use sqlx::{Connection, Pool};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use watermill_core::Backoff;

use super::{
    Wanted,
    dialect::WatchDialect,
    looking::Looking,
    topics::{Seat, Topics},
};

/// Those of all databases. They go with their last seats.
static WATCHES: LazyLock<Mutex<Vec<Weak<dyn Any + Send + Sync>>>> = LazyLock::new(Mutex::default);

/// A loop that looks, and for whom.
pub(super) struct Watch<D: WatchDialect> {
    /// By which a pool is known; its clones share them.
    options: Arc<<D::Connection as Connection>::Options>,
    topics: Arc<Topics>,
    task: AbortHandle,
    _end: DropGuard,
}

/// A watch, until somebody has a seat there.
pub(super) struct Found<D: WatchDialect>(Arc<Watch<D>>);

/// The watch of a pool, which is begun unless there is one.
pub(super) fn of<D: WatchDialect>(pool: &Pool<D>, retry: Backoff) -> Found<D> {
    let options = pool.connect_options();
    let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    watches.retain(|watch| watch.strong_count() > 0);
    let found = watches.iter().filter_map(Weak::upgrade).find_map(|watch| {
        let watch = watch.downcast::<Watch<D>>().ok()?;
        // A task ends with its runtime, which others may survive.
        (Arc::ptr_eq(&watch.options, &options) && !watch.task.is_finished()).then_some(watch)
    });
    Found(found.unwrap_or_else(|| {
        let watch = Arc::new(Watch::<D>::begin(options, retry));
        let all: Arc<dyn Any + Send + Sync> = watch.clone();
        watches.push(Arc::downgrade(&all));
        watch
    }))
}

impl<D: WatchDialect> Watch<D> {
    fn begin(options: Arc<<D::Connection as Connection>::Options>, retry: Backoff) -> Self {
        let (topics, end) = (Arc::<Topics>::default(), CancellationToken::new());
        let looking = Looking::<D>::new(options.clone(), topics.clone(), retry);
        let task = tokio::spawn(looking.go_on(end.clone())).abort_handle();
        Self { options, topics, task, _end: end.drop_guard() }
    }
}

impl<D: WatchDialect> Found<D> {
    pub(super) fn sit(self, wanted: Wanted) -> Seat {
        let topics = self.0.topics.clone();
        topics.sit(wanted, self.0)
    }
}
