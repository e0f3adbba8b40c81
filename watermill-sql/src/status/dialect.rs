//! [`StatusDialect`]: everything about status that differs between databases.

use async_trait::async_trait;
use sqlx::FromRow;

use super::{Count, WriterStatus};
use crate::{Layout, position::Position, source::SourceDialect, stored::Row, topic::Tables};

/// The most rows that are counted, which bounds what a question costs.
pub(crate) const COUNTED_MAX: u64 = 10_000;

/// The questions about topics, each of a bounded cost.
#[async_trait]
pub trait StatusDialect: SourceDialect {
    /// The groups of a log, with their leases where there is a table of those.
    async fn groups(
        connection: &mut Self::Connection,
        tables: &Tables,
        has_leases: bool,
    ) -> sqlx::Result<Vec<GroupRow>>;

    /// What is behind a position.
    async fn backlog(
        connection: &mut Self::Connection,
        tables: &Tables,
        after: Position,
    ) -> sqlx::Result<Backlog>;

    /// Whose transactions are open that may write to a log.
    async fn writers(
        _connection: &mut Self::Connection,
        _tables: &Tables,
    ) -> sqlx::Result<Vec<WriterStatus>> {
        Ok(Vec::new())
    }

    /// How many rows of a queue are due, wait, and are in hand. Of each at most one more than [`COUNTED_MAX`] are
    /// counted. Without our columns every row is due that is not done. In order by key, those wait that have an older
    /// one of their key before them.
    async fn queue_counts(
        connection: &mut Self::Connection,
        tables: &Tables,
        has_due: bool,
        ordered: bool,
    ) -> sqlx::Result<QueueCounts>;

    /// How many milliseconds ago the first of a queue's rows was written that nobody has had and that waits for no time.
    async fn oldest_unclaimed(
        connection: &mut Self::Connection,
        tables: &Tables,
        has_due: bool,
    ) -> sqlx::Result<Option<i64>>;

    /// Rows as they are, in the order of offsets.
    async fn peek(
        connection: &mut Self::Connection,
        tables: &Tables,
        layout: Layout,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Peeked>;
}

/// The most that one look brings into memory, in bytes of messages.
pub(crate) const PEEKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows that were looked at.
#[derive(Debug)]
pub struct Peeked {
    pub(crate) rows: Vec<Row>,
}

/// A group and its lease.
#[derive(Debug)]
pub struct GroupRow {
    pub(crate) group: String,
    pub(crate) position: Position,
    pub(crate) owner: Option<String>,
    pub(crate) remaining_ms: Option<i64>,
}

/// The group, its offset, who has its lease, and for how long. Where a position is more than an offset, the rest is
/// added to it.
impl<'r, R: sqlx::Row> FromRow<'r, R> for GroupRow
where
    (String, i64, Option<String>, Option<i64>): FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (group, offset, owner, remaining_ms): (_, i64, _, _) = FromRow::from_row(row)?;
        Ok(Self { group, position: offset.into(), owner, remaining_ms })
    }
}

/// Rows behind a position.
#[derive(Debug)]
pub struct Backlog {
    /// At most one more than [`COUNTED_MAX`].
    pub(crate) counted: i64,
    /// How old the first one is.
    pub(crate) oldest_ms: Option<i64>,
    /// The highest offset.
    pub(crate) newest: Option<i64>,
}

/// Rows of a queue, by what they wait for.
#[derive(Debug)]
pub struct QueueCounts {
    pub(crate) due: i64,
    pub(crate) behind: i64,
    pub(crate) delayed: i64,
    pub(crate) in_hand: i64,
}

impl Count {
    /// Of rows that were counted, up to one more than the most.
    pub(super) fn of(counted: i64) -> Self {
        let rows = u64::try_from(counted).unwrap_or(0);
        Self { rows: rows.min(COUNTED_MAX), is_exact: rows <= COUNTED_MAX }
    }

    /// Of a log, whose offsets say more.
    pub(super) fn of_log(backlog: &Backlog, after: i64) -> Self {
        let count = Self::of(backlog.counted);
        let offsets = backlog.newest.unwrap_or(0).saturating_sub(after);
        match count.is_exact {
            true => count,
            false => Self { rows: count.rows.max(u64::try_from(offsets).unwrap_or(0)), ..count },
        }
    }
}
