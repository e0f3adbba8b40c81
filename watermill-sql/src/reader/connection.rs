//! [`Kept`]: a connection that a reader keeps from one statement to the next.

use std::time::Duration;

use sqlx::{Pool, pool::PoolConnection};
use tokio::time::Instant;

use super::{Reader, Term};
use crate::{
    dialect::{Cursor as _, Dialect},
    error::Failure,
};

/// How long a connection is kept while nothing is asked of it.
const IDLE_MAX: Duration = Duration::from_millis(5);
/// How long it is kept by a reader that always has work, so that the pool's own rules for its connections
/// (their age, the tests before they are lent) apply to it, too.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// Of the pool, or no longer.
pub(super) enum Kept<D: Dialect> {
    Pooled { connection: PoolConnection<D>, since: Instant },
    Detached(D::Connection),
}

impl<D: Dialect> Kept<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled { connection, .. } => connection,
            Self::Detached(connection) => connection,
        }
    }

    /// Takes it out of the pool, which may open another one in its place.
    fn detach(self) -> Self {
        match self {
            Self::Pooled { connection, .. } => Self::Detached(connection.detach()),
            detached @ Self::Detached(_) => detached,
        }
    }
}

impl<D: Dialect> Reader<D> {
    /// The connection for the next statement: the one that was kept, or another one. Whoever has it gives it
    /// to [`keep`](Self::keep) after a statement that succeeded, and drops it after one that failed.
    pub(super) async fn connect_for(&self, term: &mut Term<D>) -> Result<Kept<D>, Failure> {
        if let Some(kept) = term.connection.take() {
            return Ok(kept);
        }
        if let Some(cursor) = &mut term.cursor {
            cursor.lose_connection();
        }
        Ok(Kept::Pooled { connection: self.connect().await?, since: Instant::now() })
    }

    /// Keeps a connection for the next statement, where nobody waits for it.
    pub(super) fn keep(&self, term: &mut Term<D>, connection: Kept<D>) {
        let now = Instant::now();
        if term.cursor.as_ref().is_some_and(|cursor| cursor.keeps_connection()) {
            // Others may need those of the pool to let this reader go on.
            term.connection = Some(if term.waiting.lasts(now) { connection.detach() } else { connection });
            term.kept_until = None;
            return;
        }
        term.kept_until = match &connection {
            Kept::Pooled { since, .. } if now < *since + KEPT_MAX && has_others(&self.pool) => {
                Some(now + IDLE_MAX)
            }
            _ => None,
        };
        term.connection = term.kept_until.map(|_| connection);
    }

    /// Gives back what is kept.
    pub(super) fn let_go(&self, term: &mut Term<D>) {
        (term.connection, term.kept_until) = (None, None);
    }
}

/// Whether somebody who wants a connection of the pool now would get one.
fn has_others<D: Dialect>(pool: &Pool<D>) -> bool {
    pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections()
}
