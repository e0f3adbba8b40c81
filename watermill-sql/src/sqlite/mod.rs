//! SQLite: one writer at a time, so rows commit in the order of their offsets and a reader that asks
//! for `offset > last` skips nothing. Acks compare and set in one statement, which is one
//! transaction.

mod lease;
mod log;
mod queue;
mod retention;
mod schema;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Sqlite, SqliteConnection, error::DatabaseError};

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig,
    dialect::{Dialect, Fetched},
    error::{Failure, Trouble},
    lease::{Claim, Claimed, Lease},
    marshaler::Record,
    position::Position,
    topic::Tables,
};

/// Now, by the database's clock, in milliseconds since the Unix epoch.
const NOW_MS: &str = "cast(unixepoch('now', 'subsec') * 1000 as integer)";

#[async_trait]
impl Dialect for Sqlite {
    type Cursor = ();

    const QUOTE: char = '"';
    /// SQLite itself has no limit; a file name is as long at most, and nobody reads longer ones.
    const IDENTIFIER_BYTES_MAX: usize = 255;
    /// Far below the limit of 32,766 bound values: longer statements gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    const DEFAULT_GROUP: &str = "default";
    const ONE_WRITER: bool = true;
    const CREATES_IN_TRANSACTION: bool = true;
    const FAILURE_ENDS_TRANSACTION: bool = false;
    const AGAIN: &str = ", or begin it as a writer (BEGIN IMMEDIATE)";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Bytes;

    fn trouble(error: &dyn DatabaseError) -> Trouble {
        // https://www.sqlite.org/rescode.html; the low byte is the primary code.
        let code: i32 = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
        match (code, code & 0xff) {
            // BUSY_SNAPSHOT: a transaction that began reading cannot write any more.
            (517, _) => Trouble::Conflict,
            // ERROR, which is what SQLite calls missing tables and columns.
            (_, 1) => Trouble::Mismatch,
            // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA.
            (_, 5 | 6 | 7 | 9 | 10 | 13 | 14 | 15 | 17) => Trouble::Unavailable,
            // TOOBIG.
            (_, 18) => Trouble::Message,
            _ => Trouble::Refused,
        }
    }

    async fn columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
        schema::columns(connection, table).await
    }

    /// The column holds anything, whatever is put into it.
    async fn create_messages(
        connection: &mut SqliteConnection,
        tables: &Tables,
        _payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_messages(connection, tables).await
    }

    async fn create_offsets(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_offsets(connection, tables).await
    }

    async fn create_leases(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        schema::create_leases(connection).await
    }

    async fn create_group(
        connection: &mut SqliteConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        log::create_group(connection, tables, config).await
    }

    async fn open_cursor(
        connection: &mut SqliteConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<(), Failure> {
        log::check_position(connection, tables, config).await
    }

    async fn insert(
        connection: &mut SqliteConnection,
        tables: &Tables,
        records: &[Record],
        _config: &SqlPublisherConfig,
    ) -> sqlx::Result<()> {
        log::insert(connection, tables, records).await
    }

    async fn fetch(
        connection: &mut SqliteConnection,
        tables: &Tables,
        (): &mut (),
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        let rows = log::fetch(connection, tables, after, limit).await?;
        Ok(Fetched { more: rows.len() == limit, rows, holder: None })
    }

    async fn claim(connection: &mut SqliteConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        lease::claim(connection, claim).await
    }

    async fn renew(
        connection: &mut SqliteConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        lease::renew(connection, lease, duration).await
    }

    async fn advance(
        connection: &mut SqliteConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        lease::advance(connection, lease, position, progress).await
    }

    async fn release(connection: &mut SqliteConnection, lease: &Lease) -> sqlx::Result<()> {
        lease::release(connection, lease).await
    }
}
