//! Writing and reading rows.

use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig, StartPosition,
    dialect::Dialect,
    marshaler::{Columns, Record, Row},
    stored::Store,
    topic::Tables,
};

/// Statements up to this many rows are worth a place in the connection's cache of prepared ones.
const CACHED_ROWS_MAX: usize = 100;

/// A Go reader at work has the group's row locked, so a row that is there is not touched.
pub(super) async fn create_group(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<()> {
    let offsets = tables.offsets();
    let there: Option<i64> =
        sqlx::query_scalar(AssertSqlSafe(format!("select 1 from {offsets} where consumer_group = ?")))
            .bind(config.group_name())
            .fetch_optional(&mut *connection)
            .await?;
    if there.is_some() {
        return Ok(());
    }
    let position = match config.start {
        StartPosition::Earliest => "select 0 as last".to_owned(),
        StartPosition::Latest => {
            format!("select coalesce(max(`offset`), 0) as last from {}", tables.messages())
        }
    };
    sqlx::query(AssertSqlSafe(format!(
        "insert ignore into {offsets} (consumer_group, offset_acked, offset_consumed)
         select ?, start.last, start.last from ({position}) start"
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
    /// How many of the values are the due time.
    pub(super) due: usize,
}

pub(super) async fn insert(
    connection: &mut MySqlConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
) -> sqlx::Result<()> {
    let extra = Extra { columns: "", values: "", due: 0 };
    insert_into(connection, tables, records, config, &extra).await
}

pub(super) async fn insert_into(
    connection: &mut MySqlConnection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    extra: &Extra<'_>,
) -> sqlx::Result<()> {
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
    query.execute(connection).await.map(drop)
}

/// The rows with offsets above `after`, in the order of offsets, with whatever gaps there are.
pub(super) async fn visible(
    connection: &mut MySqlConnection,
    tables: &Tables,
    after: i64,
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let mut store = Store::default();
    sqlx::query(AssertSqlSafe(format!(
        "select {COLUMNS} from {} where `offset` > ? order by `offset` limit ?",
        tables.messages()
    )))
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, &mut store))
    .try_collect()
    .await
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
fn bytes(row: &MySqlRow, column: usize) -> sqlx::Result<Option<&[u8]>> {
    row.try_get_unchecked(column)
}
