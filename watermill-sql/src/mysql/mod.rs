//! MySQL and MariaDB. A transaction may commit rows whose offsets are below those that others have
//! committed before, so a reader decides the gaps in what it sees: [`gaps`].

mod checks;
mod gaps;
mod holder;
mod lease;
mod log;
mod probe;
mod queue;
mod retention;
mod schema;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{MySql, MySqlConnection, error::DatabaseError, mysql::MySqlDatabaseError};

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig,
    dialect::{Dialect, Fetched},
    error::{Failure, Trouble},
    lease::{Claim, Claimed, Lease},
    marshaler::Record,
    position::Position,
    topic::Tables,
};

/// Now, by the database's clock, in milliseconds since the Unix epoch, whatever the session's time zone.
const NOW_MS: &str = "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000)";

#[async_trait]
impl Dialect for MySql {
    type Cursor = gaps::Cursor;

    const QUOTE: char = '`';
    const IDENTIFIER_BYTES_MAX: usize = 64;
    /// Far below the limit of 65,535 bound values: longer statements gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    /// A quarter of the smallest default of `max_allowed_packet`, MariaDB's.
    const INSERT_BYTES_MAX: usize = 4 * 1024 * 1024;
    const DEFAULT_GROUP: &str = "";
    const ONE_WRITER: bool = false;
    /// Creating a table commits the transaction.
    const CREATES_IN_TRANSACTION: bool = false;
    const FAILURE_ENDS_TRANSACTION: bool = false;
    /// As of sqlx 0.9.
    const FORGETS_BEGIN: bool = true;
    const AGAIN: &str = "";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Json;

    fn trouble(error: &dyn DatabaseError) -> Trouble {
        // https://mariadb.com/kb/en/mariadb-error-codes/, which agrees with MySQL on these.
        match error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number) {
            // Deadlock: all of the transaction has been rolled back.
            1213 => Trouble::Conflict,
            // No such table, unknown column, a column without a value.
            1146 | 1054 | 1364 => Trouble::Mismatch,
            // Larger than the packet or the column, not JSON (MySQL, MariaDB), not in the character set.
            1153 | 1301 | 1406 | 3140 | 4025 | 1366 => Trouble::Message,
            // Too many connections, shutting down, out of resources, killed, interrupted, read-only
            // after a switch of primaries, lock waits.
            1040
            | 1203
            | 1226
            | 1053
            | 1077
            | 1021
            | 1037
            | 1041
            | 1927
            | 1317
            | 1290
            | 1836
            | 1205
            | 3572
            | 1158..=1161 => Trouble::Unavailable,
            _ => Trouble::Refused,
        }
    }

    async fn check_server(connection: &mut MySqlConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }

    async fn columns(connection: &mut MySqlConnection, table: &str) -> sqlx::Result<Vec<String>> {
        schema::columns(connection, table).await
    }

    async fn payload_column(
        connection: &mut MySqlConnection,
        tables: &Tables,
    ) -> sqlx::Result<PayloadColumn> {
        schema::payload_column(connection, tables).await
    }

    async fn create_messages(
        connection: &mut MySqlConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_messages(connection, tables, payload).await
    }

    async fn create_offsets(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_offsets(connection, tables).await
    }

    async fn create_leases(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        schema::create_leases(connection).await
    }

    async fn create_group(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        log::create_group(connection, tables, config).await
    }

    async fn open_cursor(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<gaps::Cursor, Failure> {
        gaps::open(connection, tables, config).await
    }

    async fn insert(
        connection: &mut MySqlConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
    ) -> sqlx::Result<()> {
        log::insert(connection, tables, records, config).await
    }

    async fn fetch(
        connection: &mut MySqlConnection,
        tables: &Tables,
        cursor: &mut gaps::Cursor,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }

    async fn claim(connection: &mut MySqlConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        lease::claim(connection, claim).await
    }

    async fn renew(
        connection: &mut MySqlConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        lease::renew(connection, lease, duration).await
    }

    async fn advance(
        connection: &mut MySqlConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        lease::advance(connection, lease, position, progress).await
    }

    async fn release(connection: &mut MySqlConnection, lease: &Lease) -> sqlx::Result<()> {
        lease::release(connection, lease).await
    }
}
