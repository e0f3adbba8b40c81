//! Status. Who writes is alone, and is not told of.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::{NOW_MS, log};
use crate::{
    Layout,
    position::Position,
    status::{Backlog, COUNTED_MAX, GroupRow, PEEKED_BYTES_MAX, Peeked, QueueCounts, StatusDialect},
    stored::Limit,
    topic::{LEASES, Tables},
};

#[async_trait]
impl StatusDialect for Sqlite {
    async fn groups(
        connection: &mut SqliteConnection,
        tables: &Tables,
        has_leases: bool,
    ) -> sqlx::Result<Vec<GroupRow>> {
        let (lease, join) = match has_leases {
            true => (
                format!("l.owner, l.expires_at_ms - {NOW_MS}"),
                format!("left join {LEASES} l on l.topic = ? and l.consumer_group = o.consumer_group"),
            ),
            false => ("null, null".to_owned(), "where ? is not null".to_owned()),
        };
        sqlx::query_as(AssertSqlSafe(format!(
            "select o.consumer_group, o.offset_acked, {lease} from {} o {join} order by 1",
            tables.offsets()
        )))
        .bind(tables.topic())
        .fetch_all(connection)
        .await
    }

    async fn backlog(
        connection: &mut SqliteConnection,
        tables: &Tables,
        after: Position,
    ) -> sqlx::Result<Backlog> {
        let messages = tables.messages();
        let row = sqlx::query(AssertSqlSafe(format!(
            r#"select (select count(*) from (select 1 from {messages} where "offset" > ?1 limit {})),
                      (select {NOW_MS} - cast(unixepoch(created_at, 'subsec') * 1000 as integer)
                       from {messages} where "offset" > ?1 order by "offset" limit 1),
                      (select max("offset") from {messages})"#,
            COUNTED_MAX + 1
        )))
        .bind(after.offset)
        .fetch_one(connection)
        .await?;
        Ok(Backlog { counted: row.try_get(0)?, oldest_ms: row.try_get(1)?, newest: row.try_get(2)? })
    }

    async fn queue_counts(
        connection: &mut SqliteConnection,
        tables: &Tables,
        has_due: bool,
    ) -> sqlx::Result<QueueCounts> {
        let (messages, limit) = (tables.messages(), COUNTED_MAX + 1);
        let some = |columns: &str, rows: &str| {
            format!("(select {columns} from {messages} where not acked {rows} limit {limit})")
        };
        let counts = match has_due {
            true => format!(
                "select (select count(*) from {}), coalesce(sum(owner is null), 0),
                        coalesce(sum(owner is not null), 0) from {}",
                some("1", &format!("and due_ms <= {NOW_MS}")),
                some("owner", &format!("and due_ms > {NOW_MS}")),
            ),
            false => format!("select count(*), 0, 0 from {}", some("1", "")),
        };
        let (due, delayed, in_hand) = sqlx::query_as(AssertSqlSafe(counts)).fetch_one(connection).await?;
        Ok(QueueCounts { due, delayed, in_hand })
    }

    async fn peek(
        connection: &mut SqliteConnection,
        tables: &Tables,
        _layout: Layout,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Peeked> {
        let limit = Limit { rows: limit, bytes: PEEKED_BYTES_MAX };
        Ok(Peeked { rows: log::fetch(connection, tables, after.into(), limit).await?.rows })
    }
}
