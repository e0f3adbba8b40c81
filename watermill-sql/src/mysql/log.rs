//! Reading logs.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::probe;
use crate::{
    SqlSubscriberConfig, StartPosition,
    connection::{ConnectionDialect as _, begin},
    error::Failure,
    log::{Fetched, LastRow, Lease, LogDialect, NEWEST, Place, Progress, behind},
    position::Position,
    stored::Limit,
    topic::{LEASES, Tables},
};

#[async_trait]
impl LogDialect for MySql {
    type Cursor = probe::Cursor;

    const BEGINNING: &str = "offset_acked = 0, offset_consumed = 0";

    /// A Go reader at work has the group's row locked, so a row that is there is not touched.
    async fn create_group(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        let (offsets, group) = (tables.offsets(), config.group_name());
        let there: Option<i64> =
            sqlx::query_scalar(AssertSqlSafe(format!("select 1 from {offsets} where consumer_group = ?")))
                .bind(group)
                .fetch_optional(&mut *connection)
                .await?;
        if there.is_some() {
            return Ok(());
        }
        let (position, progress) = match config.start {
            StartPosition::Earliest => (0, Progress::default()),
            StartPosition::Latest => {
                let newest: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
                    "select cast({offset} as signed) from {} order by {offset} desc limit {NEWEST}",
                    tables.messages(),
                    offset = tables.offset(),
                )))
                .fetch_all(&mut *connection)
                .await?;
                behind(&newest)
            }
        };
        let mut transaction = begin::<MySql>(connection, config.lease).await?;
        let made = sqlx::query(AssertSqlSafe(format!(
            "insert ignore into {offsets} (consumer_group, offset_acked, offset_consumed) values (?, ?, ?)"
        )))
        .bind(group)
        .bind(position)
        .bind(position)
        .execute(&mut *transaction)
        .await?;
        if made.rows_affected() > 0 && !progress.is_empty() {
            sqlx::query(AssertSqlSafe(format!(
                "insert into {LEASES} (topic, consumer_group, token, expires_at_ms, progress)
                 values (?, ?, 0, 0, ?) on duplicate key update progress = values(progress)"
            )))
            .bind(tables.topic())
            .bind(group)
            .bind(progress.encode(position.into()))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        MySql::end(connection).await
    }

    async fn open_cursor(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<probe::Cursor, Failure> {
        probe::open(connection, tables, config).await
    }

    async fn fetch(
        connection: &mut MySqlConnection,
        tables: &Tables,
        cursor: &mut probe::Cursor,
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }

    async fn place(
        connection: &mut MySqlConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<Option<Place>> {
        sqlx::query_as(AssertSqlSafe(format!(
            "select coalesce(o.offset_acked, 0), l.read_offset, l.read_row,
                    (select {} from {} m where m.{} = l.read_offset)
             from {} o left join {LEASES} l on l.topic = ? and l.consumer_group = ? where o.consumer_group = ?",
            tables.row(ROW),
            tables.messages(),
            tables.offset(),
            tables.offsets()
        )))
        .bind(tables.topic())
        .bind(group)
        .bind(group)
        .fetch_optional(connection)
        .await
    }

    async fn last_row(
        connection: &mut MySqlConnection,
        tables: &Tables,
        up_to: i64,
    ) -> sqlx::Result<Option<LastRow>> {
        sqlx::query_as(AssertSqlSafe(format!(
            "select cast(m.{offset} as signed), {} from {} m where m.{offset} <= ?
             order by m.{offset} desc limit 1",
            tables.row(ROW),
            tables.messages(),
            offset = tables.offset(),
        )))
        .bind(up_to)
        .fetch_optional(connection)
        .await
    }

    async fn still_there(
        connection: &mut MySqlConnection,
        tables: &Tables,
        positions: &[Position],
    ) -> sqlx::Result<Vec<Position>> {
        let offsets: Vec<String> = positions.iter().map(|position| position.offset.to_string()).collect();
        let there: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select cast({offset} as signed) from {} where {offset} in ({})",
            tables.messages(),
            offsets.join(", "),
            offset = tables.offset(),
        )))
        .persistent(false)
        .fetch_all(connection)
        .await?;
        Ok(there.into_iter().map(Position::from).collect())
    }

    async fn note_last_row(
        connection: &mut MySqlConnection,
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

    /// A backslash stands for itself in no mode but one.
    fn literal(text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    }
}

/// What tells a row from others that may have had its offset.
const ROW: &str = "concat(m.uuid, ' ', unix_timestamp(m.created_at))";
