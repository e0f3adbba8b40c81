//! Reading logs.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{commit_order, rows, start};
use crate::{
    SqlSubscriberConfig,
    error::Failure,
    log::{Fetched, LastRow, Lease, LogDialect, Place},
    position::Position,
    stored::Limit,
    topic::{LEASES, Tables},
};

#[async_trait]
impl LogDialect for Postgres {
    type Cursor = commit_order::Cursor;

    const BEGINNING: &str = "offset_acked = 0, last_processed_transaction_id = '0'";

    async fn create_group(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        start::create_group(connection, tables, config).await
    }

    async fn open_cursor(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<commit_order::Cursor, Failure> {
        commit_order::open(connection, tables, config).await
    }

    async fn fetch(
        connection: &mut PgConnection,
        tables: &Tables,
        cursor: &mut commit_order::Cursor,
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }

    async fn place(
        connection: &mut PgConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<Option<Place>> {
        sqlx::query_as(AssertSqlSafe(format!(
            r#"select coalesce(o.offset_acked, 0), l.read_offset, l.read_row,
                      (select {} from {} m where m.{} = l.read_offset)
               from {} o left join {LEASES} l on l.topic = $1 and l.consumer_group = o.consumer_group
               where o.consumer_group = $2"#,
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
        connection: &mut PgConnection,
        tables: &Tables,
        up_to: i64,
    ) -> sqlx::Result<Option<LastRow>> {
        sqlx::query_as(AssertSqlSafe(format!(
            "select m.{offset}::bigint, {} from {} m where m.{offset} <= $1 order by m.{offset} desc limit 1",
            tables.row(ROW),
            tables.messages(),
            offset = tables.offset(),
        )))
        .bind(up_to)
        .fetch_optional(connection)
        .await
    }

    /// By the index that the rule of reading has: Go's tables have none on the offset alone.
    async fn still_there(
        connection: &mut PgConnection,
        tables: &Tables,
        positions: &[Position],
    ) -> sqlx::Result<Vec<Position>> {
        let offsets: Vec<i64> = positions.iter().map(|position| position.offset).collect();
        if positions.iter().all(|position| position.transaction == 0) {
            let there: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select {offset}::bigint from {} where {offset} = any($1)",
                tables.messages(),
                offset = tables.offset(),
            )))
            .bind(offsets)
            .fetch_all(connection)
            .await?;
            return Ok(there.into_iter().map(Position::from).collect());
        }
        let transactions: Vec<String> =
            positions.iter().map(|position| position.transaction.to_string()).collect();
        let rows = sqlx::query(AssertSqlSafe(format!(
            r#"select m."offset", m.transaction_id::text from {} m
               join unnest($1::text[], $2::bigint[]) as held (transaction_id, o)
               on m.transaction_id = held.transaction_id::xid8 and m."offset" = held.o"#,
            tables.messages()
        )))
        .bind(transactions)
        .bind(offsets)
        .fetch_all(connection)
        .await?;
        rows.iter()
            .map(|row| Ok(Position { transaction: rows::transaction_id(row, 1)?, offset: row.try_get(0)? }))
            .collect()
    }

    async fn note_last_row(
        connection: &mut PgConnection,
        lease: &Lease,
        row: Option<&LastRow>,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set read_offset = $1, read_row = $2
             where topic = $3 and consumer_group = $4 and token = $5"
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

/// What tells a row from others that may have had its offset.
const ROW: &str = "m.uuid || ' ' || (extract(epoch from m.created_at) * 1000000)::bigint";
