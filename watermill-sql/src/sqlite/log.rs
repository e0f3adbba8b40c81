//! Writing and reading rows.

use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::schema;

use crate::{
    SqlSubscriberConfig, StartPosition,
    error::{Failure, Trouble, classify},
    marshaler::{Columns, Record, Row},
    position::Position,
    stored::Store,
    topic::Tables,
};

/// Statements up to this many rows are worth a place in the connection's cache of prepared ones.
const CACHED_ROWS_MAX: usize = 100;

pub(super) async fn create_group(
    connection: &mut SqliteConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<()> {
    let position = match config.start {
        StartPosition::Earliest => "0".to_owned(),
        StartPosition::Latest => format!(r#"(select coalesce(max("offset"), 0) from {})"#, tables.messages()),
    };
    let offsets = tables.offsets();
    sqlx::query(AssertSqlSafe(format!(
        "insert into {offsets} (consumer_group, offset_acked, locked_until)
         values (?, {position}, 0) on conflict do nothing"
    )))
    .bind(config.group_name())
    .execute(connection)
    .await
    .map(drop)
}

/// Refuses a group that is ahead of its table, as when the table was made anew and the group was not.
pub(super) async fn check_position(
    connection: &mut SqliteConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<(), Failure> {
    // The counter is in a table that there is while a table has `autoincrement`, as Go's and ours have. One
    // without draws the highest offset that is there, and one more.
    let counter = match schema::columns(connection, "sqlite_sequence").await.map_err(classify::<Sqlite>)? {
        columns if columns.is_empty() => "null",
        _ => "(select seq from sqlite_sequence where name = ?2 collate nocase)",
    };
    let ahead: Option<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        r#"select offset_acked, drawn from {},
               (select coalesce({counter}, (select max("offset") from {}), 0) as drawn)
           where consumer_group = ?1 and offset_acked > drawn"#,
        tables.offsets(),
        tables.messages()
    )))
    .bind(config.group_name())
    .bind(tables.messages_name())
    .fetch_optional(connection)
    .await
    .map_err(classify::<Sqlite>)?;
    let Some((position, drawn)) = ahead else { return Ok(()) };
    Err(Failure::because(
        Trouble::Refused,
        format!(
            "the group is at offset {position}, but the table has drawn none above {drawn}, so that nothing \
             published next would be delivered: set the group's offset_acked"
        ),
    ))
}

/// What a layout's insert names beside what every layout has.
pub(super) struct Extra<'a> {
    pub(super) columns: &'a str,
    pub(super) values: &'a str,
    /// How many of the values are the due time.
    pub(super) due: usize,
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    tables: &Tables,
    records: &[Record],
) -> sqlx::Result<()> {
    let extra = Extra { columns: "", values: "", due: 0 };
    insert_into(connection, tables, records, &extra).await
}

pub(super) async fn insert_into(
    connection: &mut SqliteConnection,
    tables: &Tables,
    records: &[Record],
    extra: &Extra<'_>,
) -> sqlx::Result<()> {
    let values = format!("(?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?, ?{})", extra.values);
    let mut statement = format!(
        "insert into {} (uuid, created_at, payload, metadata{}) values ",
        tables.messages(),
        extra.columns
    );
    statement.reserve(records.len() * (values.len() + 1));
    for at in 0..records.len() {
        if at > 0 {
            statement.push(',');
        }
        statement.push_str(&values);
    }
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(records.len() <= CACHED_ROWS_MAX);
    for record in records {
        query = query.bind(record.uuid.as_str()).bind(&record.payload[..]).bind(record.metadata.as_str());
        for _ in 0..extra.due {
            query = query.bind(record.due_ms);
        }
    }
    query.execute(connection).await.map(drop)
}

/// The next rows, in the order of offsets.
pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    tables: &Tables,
    after: Position,
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let mut store = Store::default();
    sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS} from {} where "offset" > ? order by "offset" limit ?"#,
        tables.messages()
    )))
    .bind(after.offset)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, &mut store))
    .try_collect()
    .await
}

/// The casts make every row readable whatever its writer put into SQLite's untyped columns: text
/// into the payload, say.
pub(super) const COLUMNS: &str = r#""offset", cast(uuid as blob), cast(payload as blob),
    cast(metadata as blob), cast(unixepoch(created_at, 'subsec') * 1000 as integer)"#;

pub(super) fn read(row: &SqliteRow, store: &mut Store) -> sqlx::Result<Row> {
    let published_at = row.try_get::<Option<u64>, _>(4).ok().flatten();
    Ok(Row {
        position: row.try_get::<i64, _>(0)?.into(),
        published_at: published_at
            .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
        message: store.keep(Columns {
            uuid: row.try_get(1)?,
            payload: row.try_get::<Option<&[u8]>, _>(2)?.unwrap_or_default(),
            metadata: row.try_get(3)?,
        }),
    })
}
