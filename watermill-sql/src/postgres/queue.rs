//! Queues: rows that are claimed with `skip locked`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{NOW_MS, log, schema};
use crate::{
    PayloadColumn, SqlPublisherConfig,
    error::{Failure, Trouble},
    marshaler::Record,
    queue::{Claim, Claimed, OnAck, Queue, QueueDialect, Release},
    topic::Tables,
};

/// As [`NOW_MS`], the same in all of a statement, so that an index can be searched for it.
const STATEMENT_MS: &str = "(extract(epoch from statement_timestamp()) * 1000)::bigint";

/// A row that is ours, of the arrays that [`unzip`] makes: the first two parameters, with the owner as third.
/// The first condition says nothing new but to the planner, which does not see how many keys there are, and
/// looks them up whatever it believes about a table that is full and empty by turns.
const IS_HELD: &str = r#"m."offset" = any(array(select unnest($1))) and m."offset" = held."offset" and m.attempts = held.attempt
    and m.owner = $3"#;

#[async_trait]
impl QueueDialect for Postgres {
    const DUE_MS_MAX: i64 = i64::MAX;

    async fn create_queue(
        connection: &mut PgConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_queue(connection, tables, payload).await
    }

    async fn adopt_queue(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::adopt_queue(connection, tables).await
    }

    async fn check_queue(connection: &mut PgConnection, _tables: &Tables) -> Result<(), Failure> {
        let is_standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
            .fetch_one(connection)
            .await
            .map_err(Failure::of::<Postgres>)?;
        match is_standby {
            true => Err(Failure::because(
                Trouble::Refused,
                "the server is a standby, which takes no claims: connect to the primary",
            )),
            false => Ok(()),
        }
    }

    async fn enqueue(
        connection: &mut PgConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        delays: bool,
    ) -> sqlx::Result<()> {
        // That a log has no `acked` keeps messages for a queue out of one.
        let extra = match delays {
            true => log::Extra {
                columns: ", acked, due_ms",
                values: &format!(", false, coalesce(due_ms, {NOW_MS})"),
                due: true,
            },
            false => log::Extra { columns: ", acked", values: ", false", due: false },
        };
        log::insert_into(connection, tables, records, config, &extra).await
    }

    /// The array is made first, for the same reason.
    async fn claim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        limit: usize,
    ) -> sqlx::Result<Vec<Claimed>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} m
               set owner = $1, due_ms = {STATEMENT_MS} + $2, attempts = m.attempts + 1
               where m."offset" = any(array(
                   select "offset" from {messages} where not acked and due_ms <= {STATEMENT_MS}
                   order by due_ms, "offset" limit $3 for update skip locked
               ))
               returning {}, attempts, {STATEMENT_MS}"#,
            log::COLUMNS,
            messages = queue.tables.messages(),
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
        rows.iter()
            .map(|row| {
                let attempt = u32::try_from(row.try_get::<i32, _>(5)?).unwrap_or(1);
                Ok(Claimed::new(log::read(row, 0)?, attempt, row.try_get(6)?, None))
            })
            .collect()
    }

    async fn next_due(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select due_ms - {STATEMENT_MS} from {} where not acked and due_ms > {STATEMENT_MS}
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
        let (offsets, attempts) = unzip(claims);
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"update {} m set due_ms = {NOW_MS} + $4
               from unnest($1::bigint[], $2::int[]) as held ("offset", attempt)
               where {IS_HELD} returning m."offset"::bigint"#,
            queue.tables.messages()
        )))
        .bind(offsets)
        .bind(attempts)
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .fetch_all(connection)
        .await
    }

    async fn finish_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let (offsets, attempts) = unzip(claims);
        let messages = queue.tables.messages();
        let (finish, from) = match queue.on_ack {
            OnAck::Delete => (format!("delete from {messages} m"), "using"),
            OnAck::Mark => (format!("update {messages} m set acked = true, owner = null"), "from"),
        };
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"{finish} {from} unnest($1::bigint[], $2::int[]) as held ("offset", attempt)
               where {IS_HELD} returning m."offset"::bigint"#
        )))
        .bind(offsets)
        .bind(attempts)
        .bind(&queue.owner)
        .fetch_all(connection)
        .await
    }

    async fn unclaim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<()> {
        let claims: Vec<Claim> = releases.iter().map(|release| release.claim).collect();
        let (offsets, held) = unzip(&claims);
        let tried: Vec<i32> = releases.iter().map(|release| attempts(release.attempts())).collect();
        let delays: Vec<i64> = releases.iter().map(|release| release.delay_ms()).collect();
        sqlx::query(AssertSqlSafe(format!(
            r#"update {} m set owner = null, due_ms = {NOW_MS} + held.delay_ms, attempts = held.tried
               from unnest($1::bigint[], $2::int[], $4::int[], $5::bigint[])
                   as held ("offset", attempt, tried, delay_ms)
               where {IS_HELD}"#,
            queue.tables.messages()
        )))
        .bind(offsets)
        .bind(held)
        .bind(&queue.owner)
        .bind(tried)
        .bind(delays)
        .execute(connection)
        .await
        .map(drop)
    }
}

fn unzip(claims: &[Claim]) -> (Vec<i64>, Vec<i32>) {
    claims.iter().map(|claim| (claim.offset, attempts(claim.attempt))).unzip()
}

fn attempts(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}
