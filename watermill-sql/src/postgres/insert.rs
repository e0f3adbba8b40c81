//! Writing rows.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{pooler::REMEDY, zone};
use crate::{
    PayloadColumn, SqlPublisherConfig, dialect::Dialect, marshaler::Record, publisher::InsertDialect,
    schema::Found, topic::Tables,
};

/// Whether the transaction began earlier than it does when a statement begins its own, which is the bind before it. Over a
/// connection that somebody has given back inside a transaction it began with that one's `BEGIN`, and between that and our
/// statement lies a trip to the client at least, and that for the pool's question whether the connection lives.
///
/// Too long a time takes messages for committed that nobody will commit, and too short a one costs a question more. Measured on PostgreSQL
/// 15 over a socket, with another client that asks as fast as it can: one trip takes 10 µs at least, 13 at the median,
/// so that 20 would be the least of two. A single row's statement begins 1 µs after its transaction, in three calls of a hundred more than 10
/// and in two more than 20, a thousand rows' statement nearly always more than 10: what it asks then is nothing beside its 10 ms.
const BEGUN_BEFORE: &str = "statement_timestamp() - now() > interval '10 microseconds'";

/// What a layout's insert names beside what every layout has.
struct Extra<'a> {
    columns: &'a str,
    values: &'a str,
    /// Whether `due_ms` is among the values.
    due: bool,
}

#[async_trait]
impl InsertDialect for Postgres {
    /// Rows are bound as arrays, so that the limit of bound values does not count: longer statements
    /// gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    /// Far below what a message to the server may have, and an array.
    const INSERT_BYTES_MAX: usize = 64 * 1024 * 1024;
    const PACKET_LIMIT: Option<&str> = Some("the largest value of PostgreSQL, less a little");
    const DUE_MS_MAX: i64 = i64::MAX;

    /// Nothing larger than a gibibyte can be allocated there, which it calls an internal error.
    async fn packet_max(_connection: &mut PgConnection) -> sqlx::Result<usize> {
        Ok(1023 * 1024 * 1024)
    }

    async fn insert(
        connection: &mut PgConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        asks: bool,
    ) -> sqlx::Result<bool> {
        let values = format!(", pg_current_xact_id(), {}", *zone::NOW);
        let extra = Extra { columns: ", transaction_id, created_at", values: &values, due: false };
        insert_into(connection, tables, records, config, &extra, asks).await
    }

    async fn enqueue(
        connection: &mut PgConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        found: Found,
        asks: bool,
    ) -> sqlx::Result<bool> {
        // That a log has no `acked` keeps messages for a queue out of one.
        let extra = match found.due {
            true => Extra { columns: ", acked, due_ms", values: ", false, coalesce(due_ms, 0)", due: true },
            false => Extra { columns: ", acked", values: ", false", due: false },
        };
        insert_into(connection, tables, records, config, &extra, asks).await
    }
}

/// Offsets are drawn in the order of the arrays. Nobody is notified: PostgreSQL lets transactions that do so commit one at
/// a time, each with a flush of its own.
async fn insert_into(
    connection: &mut PgConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    extra: &Extra<'_>,
    asks: bool,
) -> sqlx::Result<bool> {
    let payload_column = config.payload_column.unwrap_or(sqlx::Postgres::PAYLOAD_COLUMN);
    let (bound, payload) = match payload_column {
        PayloadColumn::Json => ("text", "nullif(payload, '')::json"),
        PayloadColumn::Bytes => ("bytea", "payload"),
    };
    let (due, due_ms) = if extra.due { (", $4::bigint[]", ", due_ms") } else { ("", "") };
    // Behind a pooler that loses prepared statements it may be that of another topic, which then writes nothing.
    let is_it = format!("${} = '{}'", if extra.due { 5 } else { 4 }, tables.messages());
    let insert = format!(
        "insert into {} (uuid, payload, metadata{})
         select uuid, {payload}, metadata::json{}
         from unnest($1::text[], $2::{bound}[], $3::text[]{due}) as new (uuid, payload, metadata{due_ms})
         where {is_it}",
        tables.messages(),
        extra.columns,
        extra.values,
    );
    let inside = if asks { BEGUN_BEFORE } else { "false" };
    let statement = format!("with written as ({insert}) select {inside}, {is_it}");
    let uuids: Vec<&str> = records.iter().map(|record| record.uuid.as_str()).collect();
    let metadata: Vec<&str> = records.iter().map(|record| record.metadata.as_str()).collect();
    let query = sqlx::query(AssertSqlSafe(statement)).bind(uuids);
    let query = match payload_column {
        PayloadColumn::Json => {
            let payloads = records.iter().map(|record| std::str::from_utf8(&record.payload));
            let payloads: Vec<&str> =
                payloads.collect::<Result<_, _>>().map_err(|error| sqlx::Error::Encode(error.into()))?;
            query.bind(payloads)
        }
        PayloadColumn::Bytes => {
            query.bind(records.iter().map(|record| &record.payload[..]).collect::<Vec<&[u8]>>())
        }
    };
    let query = query.bind(metadata);
    let query = match extra.due {
        true => query.bind(records.iter().map(|record| record.due_ms).collect::<Vec<_>>()),
        false => query,
    };
    let answer = query.bind(tables.messages()).fetch_one(connection).await?;
    if !answer.try_get::<bool, _>(1)? {
        return Err(sqlx::Error::Protocol(format!("another statement was executed: {REMEDY}")));
    }
    answer.try_get(0)
}
