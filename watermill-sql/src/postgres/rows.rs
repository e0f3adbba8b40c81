//! Reading rows.

use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};

use super::zone;
use crate::{
    marshaler::Columns,
    position::Position,
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

/// The rows with offsets above `after` and up to `up_to`, in the order of offsets.
pub(super) async fn by_offset(
    connection: &mut PgConnection,
    tables: &Tables,
    after: i64,
    up_to: i64,
    limit: Limit,
) -> sqlx::Result<Rows> {
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS}, {} from {} where "offset" > $1 and "offset" <= $2 order by "offset" limit $3"#,
        *zone::CREATED_AT,
        tables.messages()
    )))
    .bind(after)
    .bind(up_to)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, 0, &mut store));
    Rows::gather(rows, limit).await
}

/// The rows after a position whose transactions have ended, and so have all that began before them.
pub(super) async fn by_transaction(
    connection: &mut PgConnection,
    tables: &Tables,
    after: Position,
    limit: Limit,
) -> sqlx::Result<Rows> {
    let mut store = Store::default();
    // Ordered by the table's columns, with the table's name: without it, by those of the result, of which one
    // is text, where 99 comes after 100.
    let rows = sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS}, {}, transaction_id::text from {} m
           where (transaction_id, "offset") > ($1::text::xid8, $2)
             and transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           order by m.transaction_id, m."offset" limit $3"#,
        *zone::CREATED_AT,
        tables.messages()
    )))
    .bind(after.transaction.to_string())
    .bind(after.offset)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| row.and_then(|row| read(&row, transaction_id(&row, 5)?, &mut store)));
    Rows::gather(rows, limit).await
}

/// What [`read`] reads, before the moment at which the row was written: of a queue its `created_at`, which has a
/// zone, and of a log [`zone::CREATED_AT`]. The cast is for Go's queues, whose offsets are narrower.
pub(super) const COLUMNS: &str = r#""offset"::bigint, uuid, payload, metadata::text"#;

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

/// A transaction id, which is read as text.
pub(super) fn transaction_id(row: &PgRow, column: usize) -> sqlx::Result<u64> {
    row.try_get::<String, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
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
