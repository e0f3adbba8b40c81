//! Status. Who writes is alone, and is not told of.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::{NOW_MS, log};
use crate::{
    Layout,
    position::Position,
    queue::ASIDE_MS,
    status::{Backlog, COUNTED_MAX, GroupRow, PEEKED_BYTES_MAX, Peeked, QueueCounts, StatusDialect},
    stored::Limit,
    topic::{LEASES, Tables},
};

/// When a row of ours was written, in milliseconds since the epoch.
const WRITTEN_MS: &str = "cast(unixepoch(created_at, 'subsec') * 1000 as integer)";

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
        let (messages, offset) = (tables.messages(), tables.offset());
        let written_ms = match tables.mapping() {
            Some(mapping) => &*mapping.published_ms,
            None => WRITTEN_MS,
        };
        let row = sqlx::query(AssertSqlSafe(format!(
            "select (select count(*) from (select 1 from {messages} where {offset} > ?1 limit {})),
                    (select {NOW_MS} - {written_ms} from {messages} where {offset} > ?1 order by {offset} limit 1),
                    (select max({offset}) from {messages})",
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
        ordered: bool,
    ) -> sqlx::Result<QueueCounts> {
        let (messages, limit) = (tables.messages(), COUNTED_MAX + 1);
        let some = |columns: &str, rows: &str| {
            format!("(select {columns} from {messages} m where not acked {rows} limit {limit})")
        };
        let is_behind = format!(
            r#"exists (select 1 from {messages} o where o.ordering_key = m.ordering_key
                and o."offset" < m."offset" and not o.acked) as is_behind"#
        );
        let (is_behind, aside) = match ordered {
            true => (is_behind.as_str(), format!("and due_ms = {ASIDE_MS}")),
            false => ("0 as is_behind", "and 1 = 0".to_owned()),
        };
        let counts = match has_due {
            true => format!(
                "select due, behind + (select count(*) from {}), delayed, in_hand from (
                     select coalesce(sum(not is_behind), 0) as due, coalesce(sum(is_behind), 0) as behind
                     from {}
                 ) now, (
                     select coalesce(sum(owner is null), 0) as delayed,
                            coalesce(sum(owner is not null), 0) as in_hand from {}
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
        connection: &mut SqliteConnection,
        tables: &Tables,
        has_due: bool,
    ) -> sqlx::Result<Option<i64>> {
        let order =
            if has_due { r#"and due_ms = 0 order by due_ms, "offset""# } else { r#"order by "offset""# };
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select {NOW_MS} - {WRITTEN_MS} from {} where not acked {order} limit 1",
            tables.messages()
        )))
        .fetch_optional(connection)
        .await
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
