//! [`Kept`]: a connection that a reader keeps from one fetch to the next.

use sqlx::pool::PoolConnection;

use crate::dialect::Dialect;

/// Of the pool, or no longer.
pub(super) enum Kept<D: Dialect> {
    Pooled(PoolConnection<D>),
    Detached(D::Connection),
}

impl<D: Dialect> Kept<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Detached(connection) => connection,
        }
    }

    /// Takes it out of the pool, which may open another one in its place.
    pub(super) fn detach(self) -> Self {
        match self {
            Self::Pooled(connection) => Self::Detached(connection.detach()),
            detached @ Self::Detached(_) => detached,
        }
    }
}
