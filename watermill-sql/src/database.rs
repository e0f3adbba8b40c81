//! [`SqlDatabase`]: the databases.

use crate::{
    fenced::FencedDialect, listener::ListenDialect, log::LogDialect, queue::OrderedDialect,
    retention::RetentionDialect, status::StatusDialect,
};

/// A database of sqlx that this crate speaks to: `sqlx::Postgres`, `sqlx::MySql` and `sqlx::Sqlite`
/// with the features `postgres`, `mysql` and `sqlite`.
///
/// It is sealed; bounds may name it.
pub trait SqlDatabase:
    LogDialect + ListenDialect + OrderedDialect + FencedDialect + RetentionDialect + StatusDialect
{
}

impl<D: LogDialect + ListenDialect + OrderedDialect + FencedDialect + RetentionDialect + StatusDialect>
    SqlDatabase for D
{
}
