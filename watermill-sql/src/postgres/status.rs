//! Status.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, FromRow as _, PgConnection, Postgres, Row as _};

use super::{NOW_MS, rows, source, zone};
use crate::{
    Layout, WriterStatus,
    position::Position,
    queue::ASIDE_MS,
    status::{Backlog, COUNTED_MAX, GroupRow, PEEKED_BYTES_MAX, Peeked, QueueCounts, StatusDialect},
    stored::{Limit, Rows, Store},
    topic::{LEASES, Tables},
};

#[async_trait]
impl StatusDialect for Postgres {
    async fn groups(
        connection: &mut PgConnection,
        tables: &Tables,
        has_leases: bool,
    ) -> sqlx::Result<Vec<GroupRow>> {
        let (lease, join) = match has_leases {
            true => (
                format!("l.owner, l.expires_at_ms - {NOW_MS}"),
                format!("left join {LEASES} l on l.topic = $1 and l.consumer_group = o.consumer_group"),
            ),
            false => ("null::text, null::bigint".to_owned(), "where $1::text is not null".to_owned()),
        };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "select o.consumer_group, coalesce(o.offset_acked, 0), {lease}, o.last_processed_transaction_id::text
             from {} o {join} order by 1",
            tables.offsets()
        )))
        .bind(tables.topic())
        .fetch_all(connection)
        .await?;
        rows.iter()
            .map(|row| {
                let mut group = GroupRow::from_row(row)?;
                group.position.transaction = rows::transaction_id(row, 4)?;
                Ok(group)
            })
            .collect()
    }

    /// Go's logs have no index on the offset alone, and queues know no transactions.
    async fn backlog(
        connection: &mut PgConnection,
        tables: &Tables,
        after: Position,
    ) -> sqlx::Result<Backlog> {
        let (messages, offset) = (tables.messages(), tables.offset());
        let is_log: bool = sqlx::query_scalar(
            "select exists (select from pg_attribute where attrelid = to_regclass($1) and attname = 'transaction_id')",
        )
        .bind(&messages)
        .fetch_one(&mut *connection)
        .await?;
        let is_log = is_log && tables.mapping().is_none();
        let by_offset = !is_log || (after.transaction == 0 && after.offset > 0);
        let (behind, order, newest) = match by_offset {
            true => {
                (format!("$1::text is not null and {offset} > $2"), offset.clone(), format!("{offset} desc"))
            }
            false => (
                format!("(transaction_id, {offset}) > ($1::text::xid8, $2)"),
                format!("transaction_id, {offset}"),
                format!("transaction_id desc, {offset} desc"),
            ),
        };
        let created_at = if is_log { &*zone::CREATED_AT } else { "created_at" };
        let age_ms = match tables.mapping() {
            Some(mapping) => format!("{NOW_MS} - {}", mapping.published_ms),
            None => format!("(extract(epoch from clock_timestamp() - {created_at}) * 1000)::bigint"),
        };
        let row = sqlx::query(AssertSqlSafe(format!(
            "select (select count(*) from (select 1 from {messages} where {behind} limit {COUNTED_MAX} + 1) counted),
                    (select {age_ms} from {messages} where {behind} order by {order} limit 1),
                    (select {offset}::bigint from {messages} order by {newest} limit 1)"
        )))
        .bind(after.transaction.to_string())
        .bind(after.offset)
        .fetch_one(connection)
        .await?;
        Ok(Backlog { counted: row.try_get(0)?, oldest_ms: row.try_get(1)?, newest: row.try_get(2)? })
    }

    async fn writers(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<Vec<WriterStatus>> {
        let writers: Vec<(i32, Option<String>, Option<i64>, Option<i64>)> = sqlx::query_as(
            "select a.pid, nullif(a.application_name, ''),
                    (extract(epoch from clock_timestamp() - a.xact_start) * 1000)::bigint,
                    (extract(epoch from clock_timestamp() - a.query_start) * 1000)::bigint
             from pg_stat_activity a
             where a.pid in (
                 select l.pid from pg_locks l
                 where l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.granted
                   and l.relation = to_regclass($1)
                   and l.database = (select oid from pg_database where datname = current_database())
             ) and a.pid <> pg_backend_pid() order by a.xact_start limit 100",
        )
        .bind(tables.messages())
        .fetch_all(connection)
        .await?;
        let duration = |ms: Option<i64>| ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let writers = writers.into_iter().map(|(pid, application, age, query_age)| WriterStatus {
            id: i64::from(pid),
            application,
            age: duration(age),
            query_age: duration(query_age),
        });
        Ok(writers.collect())
    }

    async fn queue_counts(
        connection: &mut PgConnection,
        tables: &Tables,
        has_due: bool,
        ordered: bool,
    ) -> sqlx::Result<QueueCounts> {
        let messages = tables.messages();
        let limit = format!("limit {COUNTED_MAX} + 1");
        let (is_behind, aside) = match ordered {
            true => (
                format!(
                    r#"(exists (select from {messages} o where o.ordering_key = m.ordering_key and o.holds_key is null
                                and o."offset" < m."offset" and not o.acked)
                        or exists (select from {messages} o where o.holds_key = m.ordering_key
                                   and o."offset" < m."offset" and not o.acked))"#
                ),
                format!(
                    "(select count(*) from (select from {messages} where not acked and due_ms = {ASIDE_MS} {limit}) a)"
                ),
            ),
            false => ("false".to_owned(), "0".to_owned()),
        };
        let counts = match has_due {
            true => format!(
                "with now as materialized (select {NOW_MS} as ms),
                      waiting as materialized (
                          select owner from {messages}
                          where not acked and due_ms > (select ms from now) and due_ms < {ASIDE_MS} {limit}
                      ),
                      due as materialized (
                          select {is_behind} as is_behind from {messages} m
                          where not acked and due_ms <= (select ms from now) {limit}
                      )
                 select (select count(*) from due where not is_behind),
                        (select count(*) from due where is_behind) + {aside},
                        (select count(*) from waiting where owner is null),
                        (select count(*) from waiting where owner is not null)"
            ),
            false => format!(
                "select count(*), 0::bigint, 0::bigint, 0::bigint from (
                     select 1 from {messages} where not acked {limit}
                 ) counted"
            ),
        };
        let (due, behind, delayed, in_hand) =
            sqlx::query_as(AssertSqlSafe(counts)).fetch_one(connection).await?;
        Ok(QueueCounts { due, behind, delayed, in_hand })
    }

    async fn oldest_unclaimed(
        connection: &mut PgConnection,
        tables: &Tables,
        has_due: bool,
    ) -> sqlx::Result<Option<i64>> {
        let order =
            if has_due { r#"and due_ms = 0 order by due_ms, "offset""# } else { r#"order by "offset""# };
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select (extract(epoch from clock_timestamp() - created_at::timestamptz) * 1000)::bigint
             from {} where not acked {order} limit 1",
            tables.messages()
        )))
        .fetch_optional(connection)
        .await
    }

    async fn peek(
        connection: &mut PgConnection,
        tables: &Tables,
        layout: Layout,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Peeked> {
        let created_at = if layout == Layout::Log { &*zone::CREATED_AT } else { "created_at::timestamptz" };
        let limit = Limit { rows: limit, bytes: PEEKED_BYTES_MAX };
        if let Some(mapping) = tables.mapping() {
            let rows = source::by_offset(connection, mapping, after, i64::MAX, limit).await?.rows;
            return Ok(Peeked { rows });
        }
        let mut store = Store::default();
        let found = sqlx::query(AssertSqlSafe(format!(
            r#"select {}, {created_at} from {} where "offset" > $1 order by "offset" limit $2"#,
            rows::COLUMNS,
            tables.messages()
        )))
        .bind(after)
        .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
        .fetch(connection)
        .map(|row| rows::read(&row?, 0, &mut store));
        Ok(Peeked { rows: Rows::gather(found, limit).await?.rows })
    }
}
