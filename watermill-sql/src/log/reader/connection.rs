//! [`Kept`]: a connection that a reader keeps from one statement to the next.

use tokio::time::Instant;

use super::{Reader, Term};
use crate::{
    error::Failure,
    log::dialect::{Cursor as _, LogDialect},
    pooled::{IDLE_MAX, Pooled},
};

/// Of the pool, or no longer.
pub(super) enum Kept<D: LogDialect> {
    Pooled(Pooled<D>),
    Detached(D::Connection),
}

impl<D: LogDialect> Kept<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled(pooled) => &mut pooled.connection,
            Self::Detached(connection) => connection,
        }
    }

    /// Takes it out of the pool, which may open another one in its place.
    fn detach(self) -> Self {
        match self {
            Self::Pooled(pooled) => Self::Detached(pooled.connection.detach()),
            detached @ Self::Detached(_) => detached,
        }
    }
}

impl<D: LogDialect> Reader<D> {
    /// The connection for the next statement: the one that was kept, or another one. Whoever has it gives it
    /// to [`keep`](Self::keep) after a statement that succeeded, and drops it after one that failed.
    pub(super) async fn connect_for(&self, term: &mut Term<D>) -> Result<Kept<D>, Failure> {
        if let Some(kept) = term.connection.take() {
            return Ok(kept);
        }
        if let Some(cursor) = &mut term.cursor {
            cursor.lose_connection();
        }
        Ok(Kept::Pooled(Pooled::of(&self.pool).await?))
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
            Kept::Pooled(pooled) if pooled.may_be_kept(&self.pool, now) => Some(now + IDLE_MAX),
            _ => None,
        };
        term.connection = term.kept_until.map(|_| connection);
    }

    /// Gives back what is kept.
    pub(super) fn let_go(&self, term: &mut Term<D>) {
        (term.connection, term.kept_until) = (None, None);
    }
}
