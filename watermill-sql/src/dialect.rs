//! [`Dialect`]: everything that differs between databases. The rest of the crate knows no SQL.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sqlx::Pool;
use watermill_core::Backoff;

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig,
    error::{Failure, Trouble},
    held_back::Holder,
    lease::{Claim, Claimed, Lease},
    listener::Listener,
    marshaler::{Record, Row},
    position::Position,
    queue::QueueDialect,
    retention::RetentionDialect,
    topic::Tables,
};

/// A database of sqlx that this crate speaks to: `sqlx::Postgres`, `sqlx::MySql` and `sqlx::Sqlite`
/// with the features `postgres`, `mysql` and `sqlite`.
///
/// It is sealed; bounds may name it.
pub trait SqlDatabase: Dialect {}

impl<D: Dialect> SqlDatabase for D {}

/// The statements of one database for logs, and what else differs. Each works on a connection that may be inside a transaction.
#[async_trait]
pub trait Dialect: QueueDialect + RetentionDialect {
    /// What a reader remembers from one fetch to the next.
    type Cursor: Cursor;

    /// Quotes an identifier.
    const QUOTE: char;
    /// The longest name of a table, in bytes.
    const IDENTIFIER_BYTES_MAX: usize;
    /// The most rows of one insert, below the limit of bound values.
    const INSERT_ROWS_MAX: usize;
    /// The most bytes of one insert, unless a single row has more.
    const INSERT_BYTES_MAX: usize = usize::MAX;
    /// The group that Go's library reads for when none is named.
    const DEFAULT_GROUP: &str;
    /// Whether the database has one writer at a time, so that writers of one publisher had better
    /// queue in the order they came.
    const ONE_WRITER: bool;
    /// Whether a table can be created inside a transaction without ending it, even after a statement
    /// that has failed for want of it.
    const CREATES_IN_TRANSACTION: bool;
    /// Whether a statement that fails ends the caller's transaction, so that what can be known before
    /// must be looked up before.
    const FAILURE_ENDS_TRANSACTION: bool;
    /// Whether sqlx, when the future of a `BEGIN` is dropped, gives the connection back with the transaction
    /// open, so that what the next one writes over it is never committed.
    const FORGETS_BEGIN: bool = false;
    /// What else a caller can do whose transaction cannot go on: a fragment, or nothing.
    const AGAIN: &str;
    /// The payload column of the tables that Go's library makes.
    const PAYLOAD_COLUMN: PayloadColumn;

    /// What a native error means.
    fn trouble(error: &dyn sqlx::error::DatabaseError) -> Trouble;

    /// Refuses a server that cannot be written to, with the remedy: before anything is, so that it is not
    /// taken for one that is away.
    async fn check_server(_connection: &mut Self::Connection) -> Result<(), Failure> {
        Ok(())
    }

    /// The columns of a table, by its name in the catalogue; none when there is no such table.
    async fn columns(connection: &mut Self::Connection, table: &str) -> sqlx::Result<Vec<String>>;

    /// What the payload column of a topic's table holds, whoever made it.
    async fn payload_column(
        _connection: &mut Self::Connection,
        _tables: &Tables,
    ) -> sqlx::Result<PayloadColumn> {
        Ok(Self::PAYLOAD_COLUMN)
    }

    /// Creates the messages table unless it exists.
    async fn create_messages(
        connection: &mut Self::Connection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()>;

    /// Creates the offsets table unless it exists.
    async fn create_offsets(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// Creates the table of leases unless it exists.
    async fn create_leases(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// Gives a group its first position unless it has one.
    async fn create_group(
        connection: &mut Self::Connection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()>;

    /// Begins to wake readers of what other processes publish, until the listener is dropped; `None` where the
    /// database tells nobody. Called within a runtime, once for all subscriptions of a subscriber.
    fn listen(_pool: &Pool<Self>, _retry: Backoff) -> Option<Listener> {
        None
    }

    /// Checks that nothing will be lost or stay undelivered when this group reads this topic, and begins
    /// a term of fetching. Called by `subscribe`, so that what cannot be decided is refused there, at the
    /// start of every term, and after a fetch that failed. The group's row exists.
    async fn open_cursor(
        connection: &mut Self::Connection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<Self::Cursor, Failure>;

    /// Inserts at most [`INSERT_ROWS_MAX`](Self::INSERT_ROWS_MAX) rows with one statement, which wakes
    /// readers in other processes where the database can do that.
    async fn insert(
        connection: &mut Self::Connection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
    ) -> sqlx::Result<()>;

    /// Reads the next rows after a position, in an order in which no row can come later before one that
    /// was read.
    async fn fetch(
        connection: &mut Self::Connection,
        tables: &Tables,
        cursor: &mut Self::Cursor,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched>;

    /// Takes the lease if it is free, or says who has it.
    async fn claim(connection: &mut Self::Connection, claim: &Claim<'_>) -> sqlx::Result<Claimed>;

    /// Prolongs a lease; false when it is lost.
    async fn renew(
        connection: &mut Self::Connection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool>;

    /// Moves the group's position and, if given, replaces its progress, inside the caller's
    /// transaction; false when the lease is lost.
    async fn advance(
        connection: &mut Self::Connection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool>;

    /// Gives a lease back, so that others need not wait for its end. A lost one is left alone.
    async fn release(connection: &mut Self::Connection, lease: &Lease) -> sqlx::Result<()>;
}

/// Runs work that begins transactions so that dropping this future does not interrupt it where that would do
/// harm: there it has a task of its own.
pub(crate) async fn to_its_end<D: Dialect, T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    if !D::FORGETS_BEGIN {
        return work.await;
    }
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What a reader remembers from one fetch to the next, to decide which rows are complete.
pub trait Cursor: fmt::Debug + Send + 'static {
    /// Whether what is remembered is worth nothing with another connection than the one of the last fetch.
    fn keeps_connection(&self) -> bool {
        false
    }

    /// Forgets what does not outlive a connection.
    fn lose_connection(&mut self) {}
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
    /// Who keeps later rows from being read, if anybody does.
    pub(crate) holder: Option<Holder>,
}
