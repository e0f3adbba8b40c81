//! [`LogDialect`] and [`LeaseDialect`]: everything about reading logs that differs between databases.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sqlx::FromRow;

use super::{
    SqlSubscriberConfig,
    held_back::Holder,
    lease::{Claim, Claimed, Lease},
};
use crate::{
    connection::ConnectionDialect,
    error::Failure,
    position::Position,
    publisher::InsertDialect,
    shards::ShardsDialect,
    source::SourceDialect,
    status::StatusDialect,
    stored::{Limit, Row},
    topic::Tables,
    watch::WatchDialect,
};

/// The statements of one database for reading logs. Each works on a connection that may be inside a transaction.
#[async_trait]
pub trait LogDialect:
    InsertDialect + LeaseDialect + ShardsDialect + SourceDialect + StatusDialect + WatchDialect
{
    /// What a reader remembers from one fetch to the next.
    type Cursor: Cursor;

    /// What of a group's row is set so that it is read from its beginning, as in `set`.
    const BEGINNING: &str = "offset_acked = 0";

    /// Gives a group its first position unless it has one.
    async fn create_group(
        connection: &mut Self::Connection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()>;

    /// Checks that nothing will be lost or stay undelivered when this group reads this topic, and begins
    /// a term of fetching. Called by `subscribe`, so that what cannot be decided is refused there, at the
    /// start of every term, and after a fetch that failed. The group's row exists.
    async fn open_cursor(
        connection: &mut Self::Connection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<Self::Cursor, Failure>;

    /// Reads the next rows after a position, in an order in which no row can come later before one that
    /// was read.
    async fn fetch(
        connection: &mut Self::Connection,
        tables: &Tables,
        cursor: &mut Self::Cursor,
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched>;

    /// What is known of the row that a group has read last; `None` where the group has no row. Only of groups that
    /// read in the order of offsets.
    async fn place(
        connection: &mut Self::Connection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<Option<Place>>;

    /// The newest row up to an offset.
    async fn last_row(
        connection: &mut Self::Connection,
        tables: &Tables,
        up_to: i64,
    ) -> sqlx::Result<Option<LastRow>>;

    /// Which of these rows are still in the table.
    async fn still_there(
        connection: &mut Self::Connection,
        tables: &Tables,
        positions: &[Position],
    ) -> sqlx::Result<Vec<Position>>;

    /// Notes the row that was read last, unless the lease is lost.
    async fn note_last_row(
        connection: &mut Self::Connection,
        lease: &Lease,
        row: Option<&LastRow>,
    ) -> sqlx::Result<()>;

    /// A text in quotes, for statements that people are shown.
    fn literal(text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The statements of one database for leases and positions.
#[async_trait]
pub trait LeaseDialect: ConnectionDialect {
    /// Takes the lease if it is free, or says who has it. [`RowNotFound`](sqlx::Error::RowNotFound) where it is that of a
    /// shard whose generation is over, or that of a subscription which somebody has removed.
    async fn claim(connection: &mut Self::Connection, claim: &Claim<'_>) -> sqlx::Result<Claimed>;

    /// Prolongs a lease; false when it is lost.
    async fn renew(
        connection: &mut Self::Connection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool>;

    /// Whether [`renew_many`](Self::renew_many) is worth asking.
    const RENEWS_MANY: bool = false;

    /// Prolongs those of the leases that can be prolonged at once and without waiting, and says which: one whose position
    /// is not the one that we know is left alone. All have the same witness.
    async fn renew_many(
        _connection: &mut Self::Connection,
        leases: &[Lease],
        _witness: Option<&str>,
        _duration: Duration,
    ) -> sqlx::Result<Vec<bool>> {
        Ok(vec![false; leases.len()])
    }

    /// Moves the group's position and, if given, replaces its progress, inside the caller's
    /// transaction; false when the lease is lost. That is silent for no longer than the lease from then on, if it costs
    /// nothing to say so here; otherwise the caller has seen to it.
    async fn advance(
        connection: &mut Self::Connection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool>;

    /// Whether [`advance_in_step`](Self::advance_in_step) bounds the silence of the whole session, which
    /// [`end`](crate::connection::ConnectionDialect::end) undoes.
    const STEP_BOUNDS_SESSION: bool = false;

    /// The same as the last thing in the transaction of a step, which is silent for no longer than `silence` from then on.
    async fn advance_in_step(
        connection: &mut Self::Connection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
        _silence: Duration,
    ) -> sqlx::Result<bool> {
        Self::advance(connection, lease, position, progress).await
    }

    /// Gives a lease back, so that others need not wait for its end. A lost one is left alone. Where it is not `clean`,
    /// what was delivered may come again, and whoever is next is to say so.
    async fn release(connection: &mut Self::Connection, lease: &Lease, clean: bool) -> sqlx::Result<()>;
}

/// What a reader remembers from one fetch to the next, to decide which rows are complete.
pub trait Cursor: fmt::Debug + Send + Sync + 'static {
    /// Whether what is remembered is worth nothing with another connection than the one of the last fetch.
    fn keeps_connection(&self) -> bool {
        false
    }

    /// Whether a group's position is an offset alone.
    fn is_by_offset(&self) -> bool {
        true
    }

    /// Forgets what does not outlive a connection.
    fn lose_connection(&mut self) {}

    /// There was a row at this offset, which may be gone: what is missing up to there may be being written, although nothing
    /// behind it is seen.
    fn reaches(&mut self, _offset: i64) {}
}

/// Nothing need be remembered where rows commit in order.
impl Cursor for () {}

/// The answer to a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// In order.
    pub(crate) rows: Vec<Row>,
    /// Whether there are likely more that can be read at once.
    pub(crate) more: bool,
    /// Whether there was one that did not fit into memory, so that the connection is of no use any more.
    pub(crate) is_cut: bool,
    /// Whether rows are being written that belong before those that come next, or may be.
    pub(crate) undecided: bool,
    /// Who keeps later rows from being read, if there were none and somebody does.
    pub(crate) holder: Option<Holder>,
}

/// A row, by its offset and by what tells it from others that may have had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRow {
    pub(crate) offset: i64,
    pub(crate) row: String,
}

/// What is known of a group's last row.
#[derive(Debug)]
pub struct Place {
    pub(crate) position: i64,
    /// What was noted.
    pub(crate) known: Option<LastRow>,
    /// What is there now, at that offset.
    pub(crate) there: Option<String>,
}

/// Its offset, and what tells it from others.
impl<'r, R: sqlx::Row> FromRow<'r, R> for LastRow
where
    (i64, String): FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        <(i64, String)>::from_row(row).map(|(offset, row)| Self { offset, row })
    }
}

/// The group's position, the offset and the rest of what was noted, and what is there.
impl<'r, R: sqlx::Row> FromRow<'r, R> for Place
where
    (i64, Option<i64>, Option<String>, Option<String>): FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (position, offset, noted, there) = FromRow::from_row(row)?;
        Ok(Self { position, known: offset.zip(noted).map(|(offset, row)| LastRow { offset, row }), there })
    }
}
