//! [`Pooled`]: a connection of the pool, as long as statements of ours go over it.
//!
//! The pool asks the server whether a connection is alive when it lends one and when it gets it back: two
//! more trips for each statement of a reader that is busy. So those keep it from one statement to the next.

use std::time::Duration;

use sqlx::{Pool, pool::PoolConnection};
use tokio::time::{Instant, timeout};

use super::ConnectionDialect;
use crate::error::{Failure, classify};

/// What is said of a connection that the application has given back with a transaction open.
pub(crate) const FORGOTTEN: &str = "a connection of the pool has a transaction open that nobody ends, and is \
    closed: a future of `begin` was dropped, or a `BEGIN` given back without its end";

/// How long a connection is kept while nothing is asked of it.
pub(crate) const IDLE_MAX: Duration = Duration::from_millis(5);
/// How long it may take to give one back, before it is closed.
const RETURN_MAX: Duration = Duration::from_secs(5);
/// How long it is kept by who always has work, so that the pool's own rules for its connections (their age,
/// the tests before they are lent) apply to it, too.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// A connection, and since when it is out of the pool. One that was used and is dropped without being
/// [settled](Self::settled) is closed: its last statement did not come to an end, and nobody knows what state it
/// is in.
pub(crate) struct Pooled<D: ConnectionDialect> {
    /// `None` once detached.
    connection: Option<PoolConnection<D>>,
    since: Instant,
    in_doubt: bool,
}

impl<D: ConnectionDialect> Pooled<D> {
    /// Waits for one of the pool.
    pub(crate) async fn of(pool: &Pool<D>) -> Result<Self, Failure> {
        let connection = pool.acquire().await.map_err(classify::<D>)?;
        Ok(Self { connection: Some(connection), since: Instant::now(), in_doubt: false })
    }

    /// Waits for one of the pool in which no transaction is open. One that is was left behind by the
    /// application, which has dropped a `BEGIN` or forgotten its end: what is written over it might never be
    /// committed.
    pub(crate) async fn clean(pool: &Pool<D>) -> Result<Self, Failure> {
        loop {
            let mut pooled = Self::of(pool).await?;
            if !D::FORGETS_BEGIN || !D::is_in_transaction(pooled.get()).await.map_err(classify::<D>)? {
                pooled.settled();
                return Ok(pooled);
            }
            // In doubt, and so closed, which rolls it back.
            tracing::warn!("{FORGOTTEN}");
        }
    }

    /// For the next statement, after which it is [settled](Self::settled) or closed.
    pub(crate) fn get(&mut self) -> &mut D::Connection {
        self.in_doubt = true;
        self.connection.as_mut().expect("detaching takes it by value")
    }

    /// To look at, without a statement.
    pub(crate) fn peek(&self) -> &D::Connection {
        self.connection.as_ref().expect("detaching takes it by value")
    }

    /// Its last statement was answered.
    pub(crate) fn settled(&mut self) {
        self.in_doubt = false;
    }

    /// Takes it out of the pool, which may open another one in its place.
    pub(crate) fn detach(mut self) -> D::Connection {
        self.connection.take().expect("detaching takes it by value").detach()
    }

    /// Whether it may be kept now: not for too long, and not while somebody else would have to wait for it.
    pub(crate) fn may_be_kept(&self, pool: &Pool<D>, now: Instant) -> bool {
        let has_others = pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
        has_others && now < self.since + KEPT_MAX
    }
}

impl<D: ConnectionDialect> Drop for Pooled<D> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|_| D::FORGETS_BEGIN) else { return };
        if self.in_doubt {
            connection.close_on_drop();
            return;
        }
        // What the pool would do by itself, which asks the server whether the connection lives, and would wait for the
        // answer without an end: the place of a connection that is half open would be taken for as long.
        let returning = connection.return_to_pool();
        tokio::spawn(async move { timeout(RETURN_MAX, returning).await.is_ok() });
    }
}
