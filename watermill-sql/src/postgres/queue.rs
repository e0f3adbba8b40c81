//! Queues: rows that are claimed with `skip locked`.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{NOW_MS, rows};
use crate::{
    error::Failure,
    queue::{ASIDE_MS, CLAIMS_LOOKED_AT, Claim, Claimed, OnAck, Queue, QueueDialect, Release, Turn},
    stored::{Limit, Store},
    topic::Tables,
};

/// As [`NOW_MS`], the same in all of a statement, so that an index can be searched for it.
pub(super) const STATEMENT_MS: &str = "(extract(epoch from statement_timestamp()) * 1000)::bigint";

/// What a row brings, in bytes. A large value is stored elsewhere, compressed, and how large it is takes a look at it; a
/// small one is what it is.
pub(super) const BYTES: &str =
    "(case when pg_column_size(payload) <= 256 then 256 else octet_length(payload::text) end
    + coalesce(pg_column_size(metadata), 0))";

/// A row that is ours: its offset is in the first parameter, the others are the attempt and the owner. The
/// planner does not see how many keys there are, and so looks them up whatever it believes about a table
/// that is full and empty by turns.
const IS_HELD: &str =
    r#""offset" = any(array(select unnest($1::bigint[]))) and attempts = $2 and owner = $3"#;

#[async_trait]
impl QueueDialect for Postgres {
    const LEAVES_DEAD_ROWS: bool = true;

    /// Claims hold on any table that a server takes writes to.
    async fn check_queue(_connection: &mut PgConnection, _tables: &Tables) -> Result<(), Failure> {
        Ok(())
    }

    /// The array is made first, for the same reason.
    async fn claim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        turn: Turn,
        limit: Limit,
    ) -> sqlx::Result<Vec<Claimed>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} m
               set owner = $1, due_ms = {STATEMENT_MS} + $2, attempts = m.attempts + 1
               where m."offset" = any(array(
                   select "offset" from (
                       select "offset", sum(bytes) over (
                           order by due_ms, "offset" rows between unbounded preceding and 1 preceding
                       ) as before
                       from (
                           select due_ms, "offset", {BYTES} as bytes from {messages}
                           where not acked and (due_ms, "offset") >= ({first_ms}, $5) and due_ms <= {STATEMENT_MS}
                           order by due_ms, "offset" limit $3 for update skip locked
                       ) free
                   ) counted where coalesce(before, 0) < $4
               ))
               returning {}, created_at::timestamptz, attempts, {STATEMENT_MS}"#,
            rows::COLUMNS,
            messages = queue.tables.messages(),
            first_ms = turn.first_ms(),
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
        .bind(i64::try_from(limit.bytes).unwrap_or(i64::MAX))
        .bind(turn.first_offset())
        .fetch_all(connection)
        .await?;
        let mut store = Store::default();
        rows.iter()
            .map(|row| {
                let attempt = u32::try_from(row.try_get::<i32, _>(5)?).unwrap_or(1);
                Ok(Claimed::new(rows::read(row, 0, &mut store)?, attempt, row.try_get(6)?, None))
            })
            .collect()
    }

    async fn end_claims(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<bool> {
        let ended = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} set due_ms = {NOW_MS}
               where owner is not null and "offset" = any(array(
                   select "offset" from (
                       select "offset", owner, due_ms from {messages}
                       where not acked and due_ms > {STATEMENT_MS} order by due_ms limit {CLAIMS_LOOKED_AT}
                   ) next
                   where owner is not null and due_ms - {STATEMENT_MS}
                       > 2 * coalesce(nullif(split_part(owner, ' ', 2), '')::bigint, $1)
               ))"#,
            messages = queue.tables.messages(),
        )))
        .bind(queue.timeout_ms())
        .execute(connection)
        .await?;
        Ok(ended.rows_affected() > 0)
    }

    async fn next_due(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select due_ms - {STATEMENT_MS} from {} where not acked and due_ms > {STATEMENT_MS} and due_ms < {ASIDE_MS}
             order by due_ms limit 1",
            queue.tables.messages()
        )))
        .fetch_optional(connection)
        .await?;
        Ok(next.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis))
    }

    async fn extend_claims(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let extend = format!(
            r#"update {} set due_ms = {NOW_MS} + $4 where {IS_HELD} returning "offset"::bigint"#,
            queue.tables.messages()
        );
        let mut ours = Vec::with_capacity(claims.len());
        for (attempt, offsets) in by_attempt(claims) {
            let extended: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(extend.clone()))
                .bind(offsets)
                .bind(attempt)
                .bind(&queue.owner)
                .bind(queue.timeout_ms())
                .fetch_all(&mut *connection)
                .await?;
            ours.extend(extended);
        }
        Ok(ours)
    }

    async fn finish_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => format!("delete from {messages}"),
            OnAck::Mark => format!("update {messages} set acked = true, {}", queue.let_go()),
        };
        let finish = format!(r#"{finish} where {IS_HELD} returning "offset"::bigint"#);
        let mut ours = Vec::with_capacity(claims.len());
        for (attempt, offsets) in by_attempt(claims) {
            let finished: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(finish.clone()))
                .bind(offsets)
                .bind(attempt)
                .bind(&queue.owner)
                .fetch_all(&mut *connection)
                .await?;
            ours.extend(finished);
        }
        Ok(ours)
    }

    async fn unclaim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<Vec<i64>> {
        let unclaim = format!(
            r#"update {} set {}, due_ms = $4 + case when $6 then {NOW_MS} else 0 end, attempts = $5 where {IS_HELD}
               returning "offset"::bigint"#,
            queue.tables.messages(),
            queue.let_go(),
        );
        let mut alike: BTreeMap<(i32, i32, (i64, bool)), Vec<i64>> = BTreeMap::new();
        for release in releases {
            let kind = (attempts(release.claim.attempt), attempts(release.attempts()), release.due());
            alike.entry(kind).or_default().push(release.claim.offset);
        }
        let mut ours = Vec::with_capacity(releases.len());
        for ((attempt, tried, (due_ms, from_now)), offsets) in alike {
            let unclaimed: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(unclaim.clone()))
                .bind(offsets)
                .bind(attempt)
                .bind(&queue.owner)
                .bind(due_ms)
                .bind(tried)
                .bind(from_now)
                .fetch_all(&mut *connection)
                .await?;
            ours.extend(unclaimed);
        }
        Ok(ours)
    }
}

/// Nearly always all claims are of one attempt, and then it is one statement. To join with pairs instead
/// would have them compared each with each.
pub(super) fn by_attempt(claims: &[Claim]) -> BTreeMap<i32, Vec<i64>> {
    let mut by_attempt: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for claim in claims {
        by_attempt.entry(attempts(claim.attempt)).or_default().push(claim.offset);
    }
    by_attempt
}

fn attempts(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}
