//! Status.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::{NOW_MS, rows};
use crate::{
    Layout, WriterStatus,
    position::Position,
    queue::ASIDE_MS,
    status::{Backlog, COUNTED_MAX, GroupRow, PEEKED_BYTES_MAX, Peeked, QueueCounts, StatusDialect},
    stored::Limit,
    topic::{LEASES, Tables},
};

#[async_trait]
impl StatusDialect for MySql {
    async fn groups(
        connection: &mut MySqlConnection,
        tables: &Tables,
        has_leases: bool,
    ) -> sqlx::Result<Vec<GroupRow>> {
        let (lease, join) = match has_leases {
            true => (
                format!("l.owner, cast(l.expires_at_ms - {NOW_MS} as signed)"),
                format!("left join {LEASES} l on l.topic = ? and l.consumer_group = o.consumer_group"),
            ),
            false => ("null, cast(null as signed)".to_owned(), "where ? is not null".to_owned()),
        };
        sqlx::query_as(AssertSqlSafe(format!(
            "select o.consumer_group, coalesce(o.offset_acked, 0), {lease} from {} o {join} order by 1",
            tables.offsets()
        )))
        .bind(tables.topic())
        .fetch_all(connection)
        .await
    }

    async fn backlog(
        connection: &mut MySqlConnection,
        tables: &Tables,
        after: Position,
    ) -> sqlx::Result<Backlog> {
        let (messages, offset) = (tables.messages(), tables.offset());
        let age_ms = match tables.mapping() {
            Some(mapping) => format!("{NOW_MS} - {}", mapping.published_ms),
            None => "1000 * timestampdiff(second, created_at, now())".to_owned(),
        };
        let row = sqlx::query(AssertSqlSafe(format!(
            "select (select count(*) from (
                        select 1 from {messages} where {offset} > ? limit {}
                    ) counted),
                    (select cast({age_ms} as signed) from {messages} where {offset} > ? order by {offset} limit 1),
                    (select cast(max({offset}) as signed) from {messages})",
            COUNTED_MAX + 1
        )))
        .bind(after.offset)
        .bind(after.offset)
        .fetch_one(connection)
        .await?;
        Ok(Backlog { counted: row.try_get(0)?, oldest_ms: row.try_get(1)?, newest: row.try_get(2)? })
    }

    async fn writers(connection: &mut MySqlConnection, _tables: &Tables) -> sqlx::Result<Vec<WriterStatus>> {
        let writers: sqlx::Result<Vec<(i64, Option<String>, Option<i64>, Option<i64>)>> = sqlx::query_as(
            "select cast(t.trx_mysql_thread_id as signed), cast(p.user as char),
                    timestampdiff(second, t.trx_started, now()), cast(p.time as signed)
             from information_schema.innodb_trx t
             left join information_schema.processlist p on p.id = t.trx_mysql_thread_id
             where t.trx_rows_modified > 0 and t.trx_mysql_thread_id <> connection_id()
             order by t.trx_started limit 100",
        )
        .fetch_all(connection)
        .await;
        let duration = |s: Option<i64>| s.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        // The account may not be allowed to look.
        let writers = writers.unwrap_or_default().into_iter().map(|(id, application, age, query_age)| {
            WriterStatus { id, application, age: duration(age), query_age: duration(query_age) }
        });
        Ok(writers.collect())
    }

    async fn queue_counts(
        connection: &mut MySqlConnection,
        tables: &Tables,
        has_due: bool,
        ordered: bool,
    ) -> sqlx::Result<QueueCounts> {
        let (messages, limit) = (tables.messages(), COUNTED_MAX + 1);
        let some = |columns: &str, rows: &str| {
            format!("(select {columns} from {messages} m where acked = 0 {rows} limit {limit}) counted")
        };
        let is_behind = format!(
            "exists (select 1 from {messages} o where o.ordering_key = m.ordering_key
                and o.`offset` < m.`offset` and o.acked = 0) as is_behind"
        );
        let (is_behind, aside) = match ordered {
            true => (is_behind.as_str(), format!("and due_ms = {ASIDE_MS}")),
            false => ("0 as is_behind", "and 1 = 0".to_owned()),
        };
        let counts = match has_due {
            true => format!(
                "select due_rows, behind_rows + (select count(*) from {}), delayed_rows, in_hand_rows from (
                     select cast(coalesce(sum(not is_behind), 0) as signed) as due_rows, cast(coalesce(sum(is_behind), 0) as signed) as behind_rows
                     from {}
                 ) now, (
                     select cast(coalesce(sum(owner is null), 0) as signed) as delayed_rows,
                            cast(coalesce(sum(owner is not null), 0) as signed) as in_hand_rows from {}
                 ) later",
                some("1", &aside),
                some(is_behind, &format!("and due_ms <= {NOW_MS}")),
                some("owner", &format!("and due_ms > {NOW_MS} and due_ms < {ASIDE_MS}")),
            ),
            false => format!("select count(*), 0, 0, 0 from {}", some("1", "")),
        };
        let (due, behind, delayed, in_hand) =
            sqlx::query_as(AssertSqlSafe(counts)).fetch_one(connection).await?;
        Ok(QueueCounts { due, behind, delayed, in_hand })
    }

    async fn oldest_unclaimed(
        connection: &mut MySqlConnection,
        tables: &Tables,
        has_due: bool,
    ) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select cast(1000 * timestampdiff(second, created_at, now()) as signed)
             from {} where acked = 0 {} order by `offset` limit 1",
            tables.messages(),
            if has_due { "and due_ms = 0" } else { "" },
        )))
        .fetch_optional(connection)
        .await
    }

    async fn peek(
        connection: &mut MySqlConnection,
        tables: &Tables,
        _layout: Layout,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Peeked> {
        let limit = Limit { rows: limit, bytes: PEEKED_BYTES_MAX };
        Ok(Peeked { rows: rows::visible(connection, tables, after, limit).await?.rows })
    }
}
