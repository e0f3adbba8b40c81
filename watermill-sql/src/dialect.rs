//! [`Dialect`]: everything that differs between databases. The rest of the crate knows no SQL.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    StartPosition,
    error::Trouble,
    lease::{Claim, Claimed, Lease},
    marshaler::{Record, Row},
    topic::Tables,
};

/// A database of sqlx that this crate speaks to: [`sqlx::Sqlite`] with the feature `sqlite`.
///
/// It is sealed; bounds may name it.
pub trait SqlDatabase: Dialect {}

impl<D: Dialect> SqlDatabase for D {}

/// The statements of one database. Each works on a connection that may be inside a transaction.
#[async_trait]
pub trait Dialect: sqlx::Database {
    /// Quotes an identifier.
    const QUOTE: char;
    /// The longest name of a table, in bytes.
    const IDENTIFIER_BYTES_MAX: usize;
    /// The most rows of one insert, below the limit of bound values.
    const INSERT_ROWS_MAX: usize;
    /// The group that Go's library reads for when none is named.
    const DEFAULT_GROUP: &str;
    /// Whether the database has one writer at a time, so that writers of one publisher had better
    /// queue in the order they came.
    const ONE_WRITER: bool;
    /// Whether a table can be created inside a transaction without ending it, even after a statement
    /// that has failed for want of it.
    const CREATES_IN_TRANSACTION: bool;

    /// What a native error means.
    fn trouble(error: &dyn sqlx::error::DatabaseError) -> Trouble;

    /// The columns of a table, by its name in the catalogue; none when there is no such table.
    async fn columns(connection: &mut Self::Connection, table: &str) -> sqlx::Result<Vec<String>>;

    /// Creates the messages table unless it exists.
    async fn create_messages(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// Creates the offsets table unless it exists.
    async fn create_offsets(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// Creates the table of leases unless it exists.
    async fn create_leases(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// Gives a group its first position unless it has one.
    async fn create_group(
        connection: &mut Self::Connection,
        tables: &Tables,
        group: &str,
        start: StartPosition,
    ) -> sqlx::Result<()>;

    /// Inserts at most [`INSERT_ROWS_MAX`](Self::INSERT_ROWS_MAX) rows with one statement.
    async fn insert(
        connection: &mut Self::Connection,
        tables: &Tables,
        records: &[Record],
    ) -> sqlx::Result<()>;

    /// Reads the next rows after an offset, in commit order, by key.
    async fn fetch(
        connection: &mut Self::Connection,
        tables: &Tables,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Vec<Row>>;

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
        position: i64,
        progress: Option<&str>,
    ) -> sqlx::Result<bool>;

    /// Gives a lease back, so that others need not wait for its end. A lost one is left alone.
    async fn release(connection: &mut Self::Connection, lease: &Lease) -> sqlx::Result<()>;
}
