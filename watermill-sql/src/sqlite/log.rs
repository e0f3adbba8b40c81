//! Reading logs.

use async_trait::async_trait;
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::{
    packed,
    rows::{COLUMNS, read},
    source,
};
use crate::{
    SqlSubscriberConfig, StartPosition,
    error::{Failure, Trouble, classify},
    log::{Fetched, LastRow, Lease, LogDialect, Place, to_the_beginning},
    position::Position,
    queue::json,
    schema::SchemaDialect as _,
    stored::{Limit, Rows, Store},
    topic::{LEASES, Tables},
};

#[async_trait]
impl LogDialect for Sqlite {
    type Cursor = ();

    async fn create_group(
        connection: &mut SqliteConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        let position = match config.start {
            StartPosition::Earliest => "0".to_owned(),
            StartPosition::Latest => {
                format!("(select coalesce(max({}), 0) from {})", tables.offset(), tables.messages())
            }
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

    async fn open_cursor(
        connection: &mut SqliteConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<(), Failure> {
        check_position(connection, tables, config).await
    }

    async fn fetch(
        connection: &mut SqliteConnection,
        tables: &Tables,
        (): &mut (),
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        let rows = fetch(connection, tables, after, limit).await?;
        let (more, is_cut) = (rows.are_more(limit), rows.is_cut);
        Ok(Fetched { more, is_cut, rows: rows.rows, undecided: false, holder: None })
    }

    async fn place(
        connection: &mut SqliteConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<Option<Place>> {
        sqlx::query_as(AssertSqlSafe(format!(
            r#"select o.offset_acked, l.read_offset, l.read_row,
                      (select {} from {} m where m.{} = l.read_offset)
               from {} o left join {LEASES} l on l.topic = ? and l.consumer_group = o.consumer_group
               where o.consumer_group = ?"#,
            tables.row(ROW),
            tables.messages(),
            tables.offset(),
            tables.offsets()
        )))
        .bind(tables.topic())
        .bind(group)
        .fetch_optional(connection)
        .await
    }

    async fn last_row(
        connection: &mut SqliteConnection,
        tables: &Tables,
        up_to: i64,
    ) -> sqlx::Result<Option<LastRow>> {
        sqlx::query_as(AssertSqlSafe(format!(
            "select m.{offset}, {} from {} m where m.{offset} <= ? order by m.{offset} desc limit 1",
            tables.row(ROW),
            tables.messages(),
            offset = tables.offset(),
        )))
        .bind(up_to)
        .fetch_optional(connection)
        .await
    }

    async fn still_there(
        connection: &mut SqliteConnection,
        tables: &Tables,
        positions: &[Position],
    ) -> sqlx::Result<Vec<Position>> {
        let offsets: Vec<i64> = positions.iter().map(|position| position.offset).collect();
        let there: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select {offset} from {} where {offset} in (select value from json_each(?))",
            tables.messages(),
            offset = tables.offset(),
        )))
        .bind(json(&offsets))
        .fetch_all(connection)
        .await?;
        Ok(there.into_iter().map(Position::from).collect())
    }

    async fn note_last_row(
        connection: &mut SqliteConnection,
        lease: &Lease,
        row: Option<&LastRow>,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set read_offset = ?, read_row = ?
             where topic = ? and consumer_group = ? and token = ?"
        )))
        .bind(row.map(|row| row.offset))
        .bind(row.map(|row| &row.row))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .execute(connection)
        .await
        .map(drop)
    }
}

/// What tells a row from others that may have had its offset. Neither need be text.
const ROW: &str = "hex(m.uuid) || ' ' || hex(m.created_at)";

/// Refuses a group that is ahead of its table, as when the table was made anew and the group was not.
async fn check_position(
    connection: &mut SqliteConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<(), Failure> {
    // The counter is in a table that there is while a table has `autoincrement`, as Go's and ours have. One
    // without draws the highest offset that is there, and one more.
    let counter = match Sqlite::columns(connection, "sqlite_sequence").await.map_err(classify::<Sqlite>)? {
        columns if columns.is_empty() => "null",
        _ => "(select seq from sqlite_sequence where name = ?2 collate nocase)",
    };
    let ahead: Option<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        r#"select offset_acked, drawn from {},
               (select coalesce({counter}, (select max({}) from {}), 0) as drawn)
           where consumer_group = ?1 and offset_acked > drawn"#,
        tables.offsets(),
        tables.offset(),
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
             published next would be delivered; {}",
            to_the_beginning::<Sqlite>(tables, config.group_name())
        ),
    ))
}

/// The next rows, in the order of offsets.
pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    tables: &Tables,
    after: Position,
    limit: Limit,
) -> sqlx::Result<Rows> {
    if let Some(mapping) = tables.mapping() {
        return source::fetch(connection, mapping, after.offset, limit).await;
    }
    if let Some(rows) = packed::fetch(connection, tables, after, limit).await? {
        return Ok(rows);
    }
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        r#"select {COLUMNS} from {} where "offset" > ? order by "offset" limit ?"#,
        tables.messages()
    )))
    .bind(after.offset)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, &mut store));
    Rows::gather(rows, limit).await
}
