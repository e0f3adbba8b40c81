//! [`Kept`]: a connection that a reader keeps from one fetch to the next.

use tokio::time::Instant;

use super::{Reader, intake::Fetching};
use crate::{
    connection::{IDLE_MAX, Pooled},
    error::Failure,
    log::dialect::{Cursor as _, LogDialect},
};

/// Of the pool, or no longer.
pub(super) enum Kept<D: LogDialect> {
    Pooled(Pooled<D>),
    Detached(D::Connection),
}

impl<D: LogDialect> Kept<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled(pooled) => pooled.get(),
            Self::Detached(connection) => connection,
        }
    }

    /// Takes it out of the pool, which may open another one in its place.
    fn detach(self) -> Self {
        match self {
            Self::Pooled(pooled) => Self::Detached(pooled.detach()),
            detached @ Self::Detached(_) => detached,
        }
    }
}

impl<D: LogDialect> Reader<D> {
    /// The connection for the next statement: the one that was kept, or another one. Whoever has it gives it
    /// to [`keep_for`](Self::keep_for) after a statement that succeeded, and drops it after one that failed.
    pub(super) async fn connect_for(&self, fetching: &mut Fetching<D>) -> Result<Kept<D>, Failure> {
        if let Some(kept) = fetching.connection.take() {
            return Ok(kept);
        }
        if let Some(cursor) = &mut fetching.cursor {
            cursor.lose_connection();
        }
        Ok(Kept::Pooled(Pooled::clean(&self.pool).await?))
    }

    /// Keeps a connection for the next statement, where nobody waits for it.
    pub(super) fn keep_for(&self, fetching: &mut Fetching<D>, mut connection: Kept<D>) {
        let now = Instant::now();
        if let Kept::Pooled(pooled) = &mut connection {
            pooled.settled();
        }
        if fetching.cursor.as_ref().is_some_and(|cursor| cursor.keeps_connection()) {
            // Others may need those of the pool to let this reader go on.
            let lasts = fetching.waiting.lasts(now);
            fetching.connection = Some(if lasts { connection.detach() } else { connection });
            fetching.kept_until = None;
            return;
        }
        fetching.kept_until = match &connection {
            Kept::Pooled(pooled) if pooled.may_be_kept(&self.pool, now) => Some(now + IDLE_MAX),
            _ => None,
        };
        fetching.connection = fetching.kept_until.map(|_| connection);
    }
}
