//! Writing rows.

use std::future::ready;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use crate::{
    PayloadColumn, SqlPublisherConfig, dialect::Dialect, marshaler::Record, publisher::InsertDialect,
    schema::Found, topic::Tables,
};

/// Statements up to this many rows are worth a place in the connection's cache of prepared ones.
const CACHED_ROWS_MAX: usize = 100;

/// Has MariaDB tell with the answer whether a transaction is open. MySQL takes it for a comment, and does not tell.
const INSIDE: &str = " /*M!100500 returning cast(@@in_transaction as signed) */";

/// What a layout's insert names beside what every layout has.
struct Extra<'a> {
    columns: &'a str,
    values: &'a str,
    /// How many of the values are the due time.
    due: usize,
}

#[async_trait]
impl InsertDialect for MySql {
    /// Far below the limit of 65,535 bound values: longer statements gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    /// A quarter of the smallest default of `max_allowed_packet`, MariaDB's.
    const INSERT_BYTES_MAX: usize = 4 * 1024 * 1024;
    const PACKET_LIMIT: Option<&str> = Some("max_allowed_packet");
    /// The end of what Go's `timestamp` holds, on the 19th of January 2038.
    const DUE_MS_MAX: i64 = 2_147_483_647_000;

    /// Of the session, which has what was the server's when it began.
    async fn packet_max(connection: &mut MySqlConnection) -> sqlx::Result<usize> {
        let bytes =
            sqlx::raw_sql("select cast(@@max_allowed_packet as signed)").fetch_one(connection).await?;
        Ok(usize::try_from(bytes.try_get::<i64, _>(0)?).unwrap_or(usize::MAX))
    }

    async fn insert(
        connection: &mut MySqlConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        asks: bool,
    ) -> sqlx::Result<bool> {
        let extra = Extra { columns: "", values: "", due: 0 };
        insert_into(connection, tables, records, config, &extra, asks).await
    }

    async fn enqueue(
        connection: &mut MySqlConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        found: Found,
        asks: bool,
    ) -> sqlx::Result<bool> {
        // Go's column has whole seconds: due a little late is better than a little early. It has UTC text in the
        // server's zone, where Go reads it.
        const UTC: &str = "timestamp '1970-01-01 00:00:00' + interval ceil(?/1000) second";
        let go_due = format!("coalesce(convert_tz({UTC},@@global.time_zone,@@session.time_zone),{UTC})");
        let due = "coalesce(?,0)";
        // That a log has no `acked` keeps messages for a queue out of one.
        let (columns, values, due) = match (found.due, found.go_due) {
            (true, true) => (", acked, due_ms, delayed_until", format!(",0,{due},{go_due}"), 3),
            (true, false) => (", acked, due_ms", format!(",0,{due}"), 1),
            (false, true) => (", acked, delayed_until", format!(",0,{go_due}"), 2),
            (false, false) => (", acked", ",0".to_owned(), 0),
        };
        let extra = Extra { columns, values: &values, due };
        insert_into(connection, tables, records, config, &extra, asks).await
    }
}

async fn insert_into(
    connection: &mut MySqlConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    extra: &Extra<'_>,
    asks: bool,
) -> sqlx::Result<bool> {
    let values = format!("(?,?,?{})", extra.values);
    let mut statement =
        format!("insert into {} (uuid, payload, metadata{}) values ", tables.messages(), extra.columns);
    statement.reserve(records.len() * (values.len() + 1));
    for at in 0..records.len() {
        if at > 0 {
            statement.push(',');
        }
        statement.push_str(&values);
    }
    if asks {
        statement.push_str(INSIDE);
    }
    let json = config.payload_column.unwrap_or(sqlx::MySql::PAYLOAD_COLUMN) == PayloadColumn::Json;
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(records.len() <= CACHED_ROWS_MAX);
    for record in records {
        query = query.bind(record.uuid.as_str());
        // MySQL takes no JSON from bytes.
        query = match json {
            true => query.bind(match &record.payload[..] {
                b"" => None,
                bytes => Some(std::str::from_utf8(bytes).map_err(|error| sqlx::Error::Encode(error.into()))?),
            }),
            false => query.bind(&record.payload[..]),
        };
        query = query.bind(record.metadata.as_str());
        for _ in 0..extra.due {
            query = query.bind(record.due_ms);
        }
    }
    let answers = query.fetch(connection);
    answers.try_fold(false, |inside, row| ready(row.try_get::<i64, _>(0).map(|one| inside || one != 0))).await
}
