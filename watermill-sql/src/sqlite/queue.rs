//! Queues. There is one writer at a time, so a statement that claims rows is alone with them.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::{NOW_MS, rows};
use crate::{
    error::Failure,
    queue::{
        ASIDE_MS, CLAIMS_LOOKED_AT, Claim, Claimed, OnAck, Queue, QueueDialect, Release, Turn, json,
        json_pairs,
    },
    stored::{Limit, Store},
    topic::Tables,
};

/// A row that is ours, of the pairs that [`json_pairs`] makes.
pub(super) const IS_HELD: &str = r#"("offset", attempts) in (
    select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?1)
) and owner = ?2"#;

#[async_trait]
impl QueueDialect for Sqlite {
    async fn check_queue(_connection: &mut SqliteConnection, _tables: &Tables) -> Result<(), Failure> {
        Ok(())
    }

    async fn claim_rows(
        connection: &mut SqliteConnection,
        queue: &Queue,
        turn: Turn,
        limit: Limit,
    ) -> sqlx::Result<Vec<Claimed>> {
        let messages = queue.tables.messages();
        let free = format!("not acked and due_ms >= {} and due_ms <= {NOW_MS}", turn.first_ms());
        // A look takes no lock, and there is mostly nothing.
        let is_there: bool = sqlx::query_scalar(AssertSqlSafe(format!(
            "select exists (select 1 from {messages} where {free})"
        )))
        .fetch_one(&mut *connection)
        .await?;
        if !is_there {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} set owner = ?1, due_ms = {NOW_MS} + ?2, attempts = attempts + 1
               where "offset" in (
                   select "offset" from (
                       select "offset", sum(bytes) over (
                           order by due_ms, "offset" rows between unbounded preceding and 1 preceding
                       ) as before
                       from (
                           select due_ms, "offset",
                                  coalesce(length(payload), 0) + coalesce(length(metadata), 0) as bytes
                           from {messages} where {free} order by due_ms, "offset" limit ?3
                       )
                   ) where coalesce(before, 0) < ?4
               )
               returning {}, attempts, {NOW_MS}"#,
            rows::COLUMNS
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
        .bind(i64::try_from(limit.bytes).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
        let mut store = Store::default();
        rows.iter()
            .map(|row| Ok(Claimed::new(rows::read(row, &mut store)?, row.try_get(5)?, row.try_get(6)?, None)))
            .collect()
    }

    /// First it is looked, which locks nothing.
    async fn end_claims(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<bool> {
        let messages = queue.tables.messages();
        let offsets: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            r#"select "offset" from (
                   select "offset", owner, due_ms from {messages} where not acked and due_ms > {NOW_MS}
                   order by due_ms limit {CLAIMS_LOOKED_AT}
               )
               where owner is not null and due_ms - {NOW_MS} > 2 * iif(
                   instr(owner, ' ') > 0, cast(substr(owner, instr(owner, ' ') + 1) as integer), ?)"#
        )))
        .bind(queue.timeout_ms())
        .fetch_all(&mut *connection)
        .await?;
        if offsets.is_empty() {
            return Ok(false);
        }
        let ended = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} set due_ms = {NOW_MS}
               where "offset" in (select value from json_each(?)) and not acked and owner is not null"#
        )))
        .bind(json(&offsets))
        .execute(connection)
        .await?;
        Ok(ended.rows_affected() > 0)
    }

    async fn next_due(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select min(due_ms) - {NOW_MS} from {} where not acked and due_ms > {NOW_MS} and due_ms < {ASIDE_MS}",
            queue.tables.messages()
        )))
        .fetch_one(connection)
        .await?;
        Ok(next.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis))
    }

    async fn extend_claims(
        connection: &mut SqliteConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"update {} set due_ms = {NOW_MS} + ?3 where {IS_HELD} returning "offset""#,
            queue.tables.messages()
        )))
        .bind(json_pairs(claims))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .fetch_all(connection)
        .await
    }

    async fn finish_rows(
        connection: &mut SqliteConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => format!("delete from {messages}"),
            OnAck::Mark => format!("update {messages} set acked = true, {}", queue.let_go()),
        };
        sqlx::query_scalar(AssertSqlSafe(format!(r#"{finish} where {IS_HELD} returning "offset""#)))
            .bind(json_pairs(claims))
            .bind(&queue.owner)
            .fetch_all(connection)
            .await
    }

    async fn unclaim_rows(
        connection: &mut SqliteConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<Vec<i64>> {
        let changes: Vec<_> = releases
            .iter()
            .map(|release| {
                let Claim { offset, attempt } = release.claim;
                let (due_ms, from_now) = release.due();
                (offset, attempt, release.attempts(), due_ms, i64::from(from_now))
            })
            .collect();
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"with released (o, held, attempts, due_ms, from_now) as materialized (
                   select json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                          json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]')
                   from json_each(?1)
               )
               update {} as m set {}, due_ms = r.due_ms + r.from_now * {NOW_MS}, attempts = r.attempts
               from released r where m."offset" = r.o and m.attempts = r.held and m.owner = ?2
               returning "offset""#,
            queue.tables.messages(),
            queue.let_go(),
        )))
        .bind(json(&changes))
        .bind(&queue.owner)
        .fetch_all(connection)
        .await
    }
}
