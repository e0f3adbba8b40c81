//! [`Pooled`]: a connection of the pool that is kept from one statement to the next.
//!
//! The pool asks the server whether a connection is alive when it lends one and when it gets it back: two
//! more trips for each statement of a reader that is busy.

use std::time::Duration;

use sqlx::{Pool, pool::PoolConnection};
use tokio::time::Instant;

use crate::{
    dialect::Dialect,
    error::{Failure, classify},
};

/// How long a connection is kept while nothing is asked of it.
pub(crate) const IDLE_MAX: Duration = Duration::from_millis(5);
/// How long it is kept by who always has work, so that the pool's own rules for its connections (their age,
/// the tests before they are lent) apply to it, too.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// A connection, and since when it is out of the pool.
pub(crate) struct Pooled<D: Dialect> {
    pub(crate) connection: PoolConnection<D>,
    since: Instant,
}

impl<D: Dialect> Pooled<D> {
    /// Waits for one of the pool.
    pub(crate) async fn of(pool: &Pool<D>) -> Result<Self, Failure> {
        let connection = pool.acquire().await.map_err(classify::<D>)?;
        Ok(Self { connection, since: Instant::now() })
    }

    /// Whether it may be kept now: not for too long, and not while somebody else would have to wait for it.
    pub(crate) fn may_be_kept(&self, pool: &Pool<D>, now: Instant) -> bool {
        let has_others = pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
        has_others && now < self.since + KEPT_MAX
    }
}
