//! [`Kept`]: a connection that a reader keeps from one fetch to the next.

use crate::{connection::Pooled, log::dialect::LogDialect};

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
    pub(super) fn detach(self) -> Self {
        match self {
            Self::Pooled(pooled) => Self::Detached(pooled.detach()),
            detached @ Self::Detached(_) => detached,
        }
    }
}
