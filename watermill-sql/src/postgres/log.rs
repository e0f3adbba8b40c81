//! Writing and reading rows.

use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig, StartPosition,
    dialect::Dialect,
    marshaler::{Columns, Record, Row},
    position::Position,
    stored::Store,
    topic::Tables,
};

/// The channel on which topics are named that were published to.
pub(super) const CHANNEL: &str = "watermill";

/// A group that starts at the latest row reads in the order of offsets, unless it must not: then it
/// starts behind the last transaction that every reader can see.
pub(super) async fn create_group(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<()> {
    let messages = tables.messages();
    let position = match (config.start, config.commit_order) {
        (StartPosition::Earliest, _) => "select 0::bigint, '0'::xid8".to_owned(),
        (StartPosition::Latest, crate::CommitOrder::Snapshot) => format!(
            r#"select coalesce(last."offset", 0), coalesce(last.transaction_id, '0'::xid8)
               from (select 1) one left join (
                   select "offset", transaction_id from {messages}
                   where transaction_id < pg_snapshot_xmin(pg_current_snapshot())
                   order by transaction_id desc, "offset" desc limit 1
               ) last on true"#
        ),
        (StartPosition::Latest, _) => {
            format!(r#"select coalesce(max("offset"), 0), '0'::xid8 from {messages}"#)
        }
    };
    let offsets = tables.offsets();
    sqlx::query(AssertSqlSafe(format!(
        "insert into {offsets} (consumer_group, offset_acked, last_processed_transaction_id)
         select $1, start.* from ({position}) start on conflict do nothing"
    )))
    .bind(config.group_name())
    .execute(connection)
    .await
    .map(drop)
}

/// What a layout's insert names beside what every layout has.
pub(super) struct Extra<'a> {
    pub(super) columns: &'a str,
    pub(super) values: &'a str,
    /// Whether `due_ms` is among the values.
    pub(super) due: bool,
}

pub(super) async fn insert(
    connection: &mut PgConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
) -> sqlx::Result<()> {
    let extra = Extra { columns: ", transaction_id", values: ", pg_current_xact_id()", due: false };
    insert_into(connection, tables, records, config, &extra).await
}

/// Offsets are drawn in the order of the arrays. The notification is part of the statement, and so of
/// the transaction: it is sent with the commit, if that comes.
pub(super) async fn insert_into(
    connection: &mut PgConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    extra: &Extra<'_>,
) -> sqlx::Result<()> {
    let payload_column = config.payload_column.unwrap_or(sqlx::Postgres::PAYLOAD_COLUMN);
    let (bound, cast) = match payload_column {
        PayloadColumn::Json => ("text", "::json"),
        PayloadColumn::Bytes => ("bytea", ""),
    };
    let (due, due_ms) = if extra.due { (", $4::bigint[]", ", due_ms") } else { ("", "") };
    let insert = format!(
        "insert into {} (uuid, payload, metadata{})
         select uuid, payload{cast}, metadata::json{}
         from unnest($1::text[], $2::{bound}[], $3::text[]{due}) as new (uuid, payload, metadata{due_ms})",
        tables.messages(),
        extra.columns,
        extra.values,
    );
    let statement = match config.notify {
        true => format!("with written as ({insert}) select pg_notify('{CHANNEL}', '{}')", tables.topic()),
        false => insert,
    };
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
    query.execute(connection).await.map(drop)
}

/// The rows with offsets above `after` and up to `up_to`, in the order of offsets.
pub(super) async fn by_offset(
    connection: &mut PgConnection,
    tables: &Tables,
    after: i64,
    up_to: i64,
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let mut store = Store::default();
    sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS} from {} where "offset" > $1 and "offset" <= $2 order by "offset" limit $3"#,
        tables.messages()
    )))
    .bind(after)
    .bind(up_to)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, 0, &mut store))
    .try_collect()
    .await
}

/// The rows after a position whose transactions have ended, and so have all that began before them.
pub(super) async fn by_transaction(
    connection: &mut PgConnection,
    tables: &Tables,
    after: Position,
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let mut store = Store::default();
    // Ordered by the table's columns, with the table's name: without it, by those of the result, of which one
    // is text, where 99 comes after 100.
    sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS}, transaction_id::text from {} m
           where (transaction_id, "offset") > ($1::text::xid8, $2)
             and transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           order by m.transaction_id, m."offset" limit $3"#,
        tables.messages()
    )))
    .bind(after.transaction.to_string())
    .bind(after.offset)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| row.and_then(|row| read(&row, transaction_id(&row, 5)?, &mut store)))
    .try_collect()
    .await
}

/// A transaction id, which is read as text.
pub(super) fn transaction_id(row: &PgRow, column: usize) -> sqlx::Result<u64> {
    row.try_get::<String, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A timestamp without a zone is in that of its writer's session; there is no better guess than ours.
/// The cast is for Go's queues, whose offsets are narrower.
pub(super) const COLUMNS: &str = r#""offset"::bigint, uuid, payload, metadata::text,
    created_at::timestamptz"#;

pub(super) fn read(row: &PgRow, transaction: u64, store: &mut Store) -> sqlx::Result<Row> {
    Ok(Row {
        position: Position { transaction, offset: row.try_get(0)? },
        published_at: bytes(row, 4)?.and_then(timestamp),
        message: store.keep(Columns {
            uuid: bytes(row, 1)?.unwrap_or_default(),
            payload: bytes(row, 2)?.unwrap_or_default(),
            metadata: bytes(row, 3)?,
        }),
    })
}

/// A `timestamptz` as it is sent: microseconds since the year 2000. To let the server make another number of
/// it costs more than the rest of the row.
fn timestamp(sent: &[u8]) -> Option<SystemTime> {
    const YEAR_2000: Duration = Duration::from_secs(946_684_800);
    let since = Duration::from_micros(u64::try_from(i64::from_be_bytes(sent.try_into().ok()?)).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(YEAR_2000.checked_add(since)?)
}

/// What a column holds, as it is sent: the bytes of a `bytea`, the text of a `json` or `varchar`; a
/// `jsonb` has a byte for its version before its text.
fn bytes(row: &PgRow, column: usize) -> sqlx::Result<Option<&[u8]>> {
    use sqlx::{TypeInfo as _, ValueRef as _};

    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    let jsonb = value.type_info().name() == "JSONB";
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    Ok(Some(if jsonb { bytes.get(1..).unwrap_or_default() } else { bytes }))
}
