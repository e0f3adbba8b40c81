//! PostgreSQL. Transactions commit in another order than they draw their offsets, so what a reader may
//! see is decided by one of the two rules in [`commit_order`].

mod checks;
mod commit_order;
mod holder;
mod lease;
mod listen;
mod log;
mod look;
mod queue;
mod retention;
mod schema;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool, Postgres, error::DatabaseError};
use watermill_core::Backoff;

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig,
    dialect::{Dialect, Fetched},
    error::{Failure, Trouble},
    lease::{Claim, Claimed, Lease},
    listener::Listener,
    marshaler::Record,
    position::Position,
    topic::Tables,
};

/// Now, by the database's clock, in milliseconds since the Unix epoch.
const NOW_MS: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

#[async_trait]
impl Dialect for Postgres {
    type Cursor = commit_order::Cursor;

    const QUOTE: char = '"';
    /// `NAMEDATALEN` less its end; longer names are cut without an error.
    const IDENTIFIER_BYTES_MAX: usize = 63;
    /// Rows are bound as arrays, so that the limit of bound values does not count: longer statements
    /// gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    const DEFAULT_GROUP: &str = "";
    const ONE_WRITER: bool = false;
    const CREATES_IN_TRANSACTION: bool = true;
    const FAILURE_ENDS_TRANSACTION: bool = true;
    const AGAIN: &str = "";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Json;

    fn trouble(error: &dyn DatabaseError) -> Trouble {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let code = error.code().unwrap_or_default();
        match &*code {
            // serialization_failure, deadlock_detected, in_failed_sql_transaction.
            "40001" | "40P01" | "25P02" => Trouble::Conflict,
            // undefined_table, undefined_column, datatype_mismatch, undefined_function.
            "42P01" | "42703" | "42804" | "42883" => Trouble::Mismatch,
            // invalid_text_representation, string_data_right_truncation, character_not_in_repertoire,
            // program_limit_exceeded.
            "22P02" | "22001" | "22021" | "54000" => Trouble::Message,
            // lock_not_available, query_canceled, read_only_sql_transaction: the last is what a client
            // hears that is still connected to what was the primary.
            "55P03" | "57014" | "25006" => Trouble::Unavailable,
            // Connections, resources, operators' interventions, the system.
            code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
                Trouble::Unavailable
            }
            _ => Trouble::Refused,
        }
    }

    async fn check_server(connection: &mut PgConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }

    async fn columns(connection: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        schema::columns(connection, table).await
    }

    async fn payload_column(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<PayloadColumn> {
        schema::payload_column(connection, tables).await
    }

    async fn create_messages(
        connection: &mut PgConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_messages(connection, tables, payload).await
    }

    async fn create_offsets(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_offsets(connection, tables).await
    }

    async fn create_leases(connection: &mut PgConnection) -> sqlx::Result<()> {
        schema::create_leases(connection).await
    }

    async fn create_group(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        log::create_group(connection, tables, config).await
    }

    fn listen(pool: &PgPool, retry: Backoff) -> Option<Listener> {
        Some(listen::begin(pool, retry))
    }

    async fn open_cursor(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<commit_order::Cursor, Failure> {
        commit_order::open(connection, tables, config).await
    }

    async fn insert(
        connection: &mut PgConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
    ) -> sqlx::Result<()> {
        log::insert(connection, tables, records, config).await
    }

    async fn fetch(
        connection: &mut PgConnection,
        tables: &Tables,
        cursor: &mut commit_order::Cursor,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }

    async fn claim(connection: &mut PgConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        lease::claim(connection, claim).await
    }

    async fn renew(
        connection: &mut PgConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        lease::renew(connection, lease, duration).await
    }

    async fn advance(
        connection: &mut PgConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        lease::advance(connection, lease, position, progress).await
    }

    async fn release(connection: &mut PgConnection, lease: &Lease) -> sqlx::Result<()> {
        lease::release(connection, lease).await
    }
}
