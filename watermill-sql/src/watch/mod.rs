//! Watching for what others publish, without any cost to them: one small loop a process and pool, which asks about the
//! topics of all subscriptions at once and wakes the readers of those where something has happened.
//!
//! Nothing is asked of writers: no notification, which PostgreSQL lets one transaction of the whole cluster send at a
//! time, and no trigger. On PostgreSQL a look at a sequence tells that an offset was drawn, before its transaction
//! commits, so that the reader is there in time; whoever was woken looks closely until everything that was drawn is
//! decided. Elsewhere a look tells what was committed.
//!
//! A look is a hint and no proof. Readers ask by themselves, rarely while the watch works and otherwise as their
//! configuration says.

mod asking;
mod dialect;
mod looking;
mod marks;
mod registry;
mod topics;

use std::{fmt, sync::Arc, time::Duration};

use watermill_core::backend::{Ledger, Shared};

use crate::{
    error::{Failure, classify},
    topic::Tables,
};

pub(crate) use self::{
    dialect::{WatchDialect, Watched},
    topics::Seat,
};

/// How often a reader asks by itself that is watched for.
pub(crate) const WATCHED: Duration = Duration::from_secs(30);

/// Begins to watch for a topic, for as long as the seat is kept: with one watch for all subscriptions over a pool.
/// `None` where only this process can write, as to a database in memory. Called within a runtime.
pub(crate) fn watch<D: WatchDialect>(pool: &sqlx::Pool<D>, wanted: Wanted) -> Option<Seat> {
    D::is_shared(&pool.connect_options()).then(|| registry::of(pool, wanted.retry).sit(wanted))
}

/// What there is to look at for a topic. Nothing where it is read from a table of somebody else's, of which no more is
/// asked than its readers do.
pub(crate) async fn find<D: WatchDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
) -> Result<Option<Watched>, Failure> {
    match tables.mapping() {
        Some(_) => Ok(None),
        None => D::watched(connection, tables).await.map_err(classify::<D>),
    }
}

/// What a subscription wants to be woken for.
pub(crate) struct Wanted {
    pub(crate) topic: String,
    pub(crate) watched: Watched,
    /// The longest pause between two looks.
    pub(crate) interval: Duration,
    /// Of a queue, how often it is asked whether a message is due: one that has waited, or was committed late.
    pub(crate) due_interval: Option<Duration>,
    pub(crate) retry: watermill_core::Backoff,
    /// Where its status says what keeps it from being watched for.
    pub(crate) trouble: Told,
}

/// Takes note of what keeps a subscription from being watched for, and of its end.
pub(crate) type Told = Box<dyn Fn(Option<String>) + Send + Sync>;

/// Has the status of a subscription say so.
pub(crate) fn told_by_status<L: Ledger + Send + 'static>(shared: &Arc<Shared<L>>) -> Told {
    let shared = Arc::clone(shared);
    Box::new(move |trouble| shared.lock().impaired_by = trouble)
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("topic", &self.topic)
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}
