//! [`SqlDatabase`]: the databases.

use crate::{
    fenced::FencedDialect, inbox::InboxDialect, log::LogDialect, queue::OrderedDialect,
    retention::RetentionDialect, schedules::ScheduleDialect, shards::ShardsDialect, source::SourceDialect,
    status::StatusDialect,
};

/// A database of sqlx that this crate speaks to: `sqlx::Postgres`, `sqlx::MySql` and `sqlx::Sqlite`
/// with the features `postgres`, `mysql` and `sqlite`.
///
/// It is sealed; bounds may name it.
pub trait SqlDatabase:
    LogDialect
    + OrderedDialect
    + FencedDialect
    + InboxDialect
    + RetentionDialect
    + ScheduleDialect
    + ShardsDialect
    + SourceDialect
    + StatusDialect
{
}

impl<
    D: LogDialect
        + OrderedDialect
        + FencedDialect
        + InboxDialect
        + RetentionDialect
        + ScheduleDialect
        + ShardsDialect
        + SourceDialect
        + StatusDialect,
> SqlDatabase for D
{
}
