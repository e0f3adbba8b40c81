//! Queues: rows that are claimed with `skip locked`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection, Row as _};

use super::{NOW_MS, checks, rows};
use crate::{
    error::Failure,
    queue::{CLAIMS_LOOKED_AT, Claim, Claimed, OnAck, Queue, QueueDialect, Release, Turn, json, json_pairs},
    stored::Store,
    topic::Tables,
};

/// A locking read of READ COMMITTED leaves no locks behind on what it passes over.
pub(super) const BEGIN: &str = "set transaction isolation level read committed; start transaction";

/// The rows of [`json_pairs`], to be joined with the messages.
const HELD: &str = "json_table(?, '$[*]' columns (o bigint path '$[0]', a int path '$[1]')) held";

/// The same for offsets alone.
pub(super) const OFFSETS: &str = "json_table(?, '$[*]' columns (o bigint path '$')) held";

/// When Go's column says that a message is due. It has UTC text in the server's zone, which Go's sessions have, and
/// ours may not. A server that does not know its own zone by name converts nothing.
const GO_DUE_MS: &str = "timestampdiff(microsecond, '1970-01-01',
    coalesce(convert_tz(delayed_until, @@session.time_zone, @@global.time_zone), delayed_until)) div 1000";

#[async_trait]
impl QueueDialect for MySql {
    async fn check_queue(connection: &mut MySqlConnection, tables: &Tables) -> Result<(), Failure> {
        checks::check_writable(connection, tables).await
    }

    async fn claim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        turn: Turn,
        limit: usize,
    ) -> sqlx::Result<Vec<Claimed>> {
        let messages = queue.tables.messages();
        let mut transaction = connection.begin_with(BEGIN).await?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "select {}, cast(attempts as signed), cast({NOW_MS} as signed),
                    cast({GO_DUE_MS} as signed)
             from {messages} where acked = 0 and due_ms >= {} and due_ms <= {NOW_MS}
             order by due_ms, `offset` limit ? for update skip locked",
            rows::COLUMNS,
            turn.first_ms(),
        )))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await?;
        let mut store = Store::default();
        let claimed: Vec<Claimed> = rows
            .iter()
            .map(|row| {
                let attempts = u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(0);
                let attempt = attempts.saturating_add(1);
                Ok(Claimed::new(rows::read(row, &mut store)?, attempt, row.try_get(6)?, row.try_get(7)?))
            })
            .collect::<sqlx::Result<_>>()?;
        if !claimed.is_empty() {
            let held: Vec<Claim> = claimed.iter().map(|claimed| claimed.claim).collect();
            sqlx::query(AssertSqlSafe(format!(
                "update {HELD} straight_join {messages} m on m.`offset` = held.o
                 set m.owner = ?, m.due_ms = {NOW_MS} + ?, m.attempts = held.a"
            )))
            .bind(json_pairs(&held))
            .bind(&queue.owner)
            .bind(queue.timeout_ms())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(claimed)
    }

    /// First it is looked, which locks nothing.
    async fn end_claims(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<bool> {
        let messages = queue.tables.messages();
        let offsets: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select `offset` from (
                 select `offset`, owner, due_ms from {messages} where acked = 0 and due_ms > {NOW_MS}
                 order by due_ms limit {CLAIMS_LOOKED_AT}
             ) next
             where owner is not null and due_ms - {NOW_MS} > 2 * coalesce(
                 cast(nullif(substring(owner, locate(' ', owner) + 1), owner) as signed), ?)"
        )))
        .bind(queue.timeout_ms())
        .fetch_all(&mut *connection)
        .await?;
        if offsets.is_empty() {
            return Ok(false);
        }
        let ended = sqlx::query(AssertSqlSafe(format!(
            "update {OFFSETS} straight_join {messages} m on m.`offset` = held.o
             set m.due_ms = {NOW_MS} where m.acked = 0 and m.owner is not null"
        )))
        .bind(json(&offsets))
        .execute(connection)
        .await?;
        Ok(ended.rows_affected() > 0)
    }

    async fn next_due(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select cast(min(due_ms) - {NOW_MS} as signed) from {} where acked = 0 and due_ms > {NOW_MS}",
            queue.tables.messages()
        )))
        .fetch_one(connection)
        .await?;
        Ok(next.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis))
    }

    async fn extend_claims(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        // (The client asks for the number of rows that were found, changed or not.)
        let extended = sqlx::query(AssertSqlSafe(format!(
            "update {HELD} straight_join {messages} m on m.`offset` = held.o and m.attempts = held.a
             set m.due_ms = {NOW_MS} + ? where m.owner = ?"
        )))
        .bind(json_pairs(claims))
        .bind(queue.timeout_ms())
        .bind(&queue.owner)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if extended == claims.len() as u64 {
            return Ok(offsets(claims));
        }
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select m.`offset` from {HELD} straight_join {messages} m
             on m.`offset` = held.o and m.attempts = held.a where m.owner = ?"
        )))
        .bind(json_pairs(claims))
        .bind(&queue.owner)
        .fetch_all(connection)
        .await
    }

    /// What is not done afterwards is with others. (What others have done is done, too.)
    async fn finish_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let (delete, set) = match queue.on_ack {
            OnAck::Delete => ("delete m from", ""),
            OnAck::Mark => ("update", "set m.acked = 1, m.owner = null"),
        };
        let finished = sqlx::query(AssertSqlSafe(format!(
            "{delete} {HELD} straight_join {messages} m on m.`offset` = held.o and m.attempts = held.a
             {set} where m.owner = ?"
        )))
        .bind(json_pairs(claims))
        .bind(&queue.owner)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if finished == claims.len() as u64 {
            return Ok(offsets(claims));
        }
        let lost: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select m.`offset` from {HELD} straight_join {messages} m on m.`offset` = held.o where m.acked = 0"
        )))
        .bind(json_pairs(claims))
        .fetch_all(connection)
        .await?;
        Ok(offsets(claims).into_iter().filter(|offset| !lost.contains(offset)).collect())
    }

    async fn unclaim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<()> {
        let unclaim = format!(
            "update {} set owner = null, due_ms = {NOW_MS} + ?, attempts = ?
             where `offset` = ? and attempts = ? and owner = ?",
            queue.tables.messages()
        );
        let mut transaction = connection.begin().await?;
        for release in releases {
            sqlx::query(AssertSqlSafe(unclaim.clone()))
                .bind(release.delay_ms())
                .bind(release.attempts())
                .bind(release.claim.offset)
                .bind(release.claim.attempt)
                .bind(&queue.owner)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }
}

fn offsets(claims: &[Claim]) -> Vec<i64> {
    claims.iter().map(|claim| claim.offset).collect()
}
