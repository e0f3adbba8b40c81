//! Reading rows.

use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _, mysql::MySqlRow};

use super::source;
use crate::{
    marshaler::Columns,
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

/// The rows with offsets above `after`, in the order of offsets, with whatever gaps there are.
pub(super) async fn visible(
    connection: &mut MySqlConnection,
    tables: &Tables,
    after: i64,
    limit: Limit,
) -> sqlx::Result<Rows> {
    if let Some(mapping) = tables.mapping() {
        return source::visible(connection, mapping, after, limit).await;
    }
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select {COLUMNS} from {} where `offset` > ? order by `offset` limit ?",
        tables.messages()
    )))
    .bind(after)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, &mut store));
    Rows::gather(rows, limit).await
}

pub(super) const COLUMNS: &str =
    "`offset`, uuid, payload, metadata, cast(unix_timestamp(created_at) as signed)";

pub(super) fn read(row: &MySqlRow, store: &mut Store) -> sqlx::Result<Row> {
    let published_at = row.try_get::<Option<i64>, _>(4)?.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Row {
        position: row.try_get::<i64, _>(0)?.into(),
        published_at: published_at
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        message: store.keep(Columns {
            uuid: bytes(row, 1)?.unwrap_or_default(),
            payload: bytes(row, 2)?.unwrap_or_default(),
            metadata: bytes(row, 3)?,
        }),
    })
}

/// What a column holds, as it is sent, of whatever type it is.
pub(super) fn bytes(row: &MySqlRow, column: usize) -> sqlx::Result<Option<&[u8]>> {
    row.try_get_unchecked(column)
}
