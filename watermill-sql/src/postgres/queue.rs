//! Queues: rows that are claimed with `skip locked`.
//!
//! Of two workers that look at the same row at the same time, one has it locked and the other goes on. One
//! that has looked before the other's claim was there, and locks after it, is stopped by the primary key
//! of the claims: what is claimed and not over is left as it is.

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

#[async_trait]
impl QueueDialect for Postgres {
    /// The end of the year 9999, as in the metadata.
    const DUE_MS_MAX: i64 = 253_402_300_799_999;

    async fn create_queue(
        connection: &mut PgConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_queue(connection, tables, payload).await
    }

    async fn create_claims(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_claims(connection, tables).await
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
        log::insert_into(connection, tables, records, config, &columns(delays)).await
    }

    async fn claim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Vec<Claimed>> {
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        // A scalar subquery, because it is looked up row by row, whatever the planner believes about a
        // table that is full and empty by turns.
        let free = format!(
            r#"not m.acked and coalesce(
                   (select c.due_ms from {claims} c where c."offset" = m."offset"), 0
               ) <= (select now_ms from clock)"#
        );
        let columns = log::COLUMNS;
        let (due, is_fresh, picked) = match queue.delays {
            true => (
                format!(
                    r#"due as (
                        select {columns}, true from {messages} m
                        where {free} and m.delayed_until <= statement_timestamp()
                        order by m.delayed_until limit $1 for update of m skip locked
                    ),"#
                ),
                "and m.delayed_until is null",
                "table due union all table fresh limit $1",
            ),
            false => (String::new(), "", "table fresh"),
        };
        let statement = format!(
            r#"with clock as materialized (select {NOW_MS} as now_ms), {due}
            fresh as (
                select {columns}, false from {messages} m
                where {free} {is_fresh} and m."offset" > $2
                order by m."offset" limit $1 for update of m skip locked
            ),
            picked ("offset", uuid, payload, metadata, published_ms, delayed) as materialized ({picked}),
            claimed as (
                insert into {claims} as c ("offset", owner, due_ms, attempts)
                select picked."offset", $3, now_ms + $4, 1 from picked, clock
                on conflict ("offset") do update
                    set owner = excluded.owner, due_ms = excluded.due_ms, attempts = c.attempts + 1
                    where c.due_ms <= excluded.due_ms - $4
                returning c."offset", c.attempts
            )
            select "offset", uuid, payload, metadata, published_ms, attempts, delayed, now_ms
            from picked join claimed using ("offset"), clock order by 1"#
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(after)
            .bind(&queue.owner)
            .bind(queue.timeout_ms())
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| {
                let read = log::read(row, 0)?;
                let attempt = u32::try_from(row.try_get::<i32, _>(5)?).unwrap_or(1);
                Ok(Claimed {
                    claim: Claim { offset: read.position.offset, attempt },
                    row: read,
                    delayed: row.try_get(6)?,
                    now_ms: row.try_get(7)?,
                })
            })
            .collect()
    }

    async fn next_due(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next = match queue.delays {
            true => format!(
                "select (extract(epoch from delayed_until) * 1000)::bigint - {NOW_MS}
                 from {} where not acked and delayed_until > statement_timestamp()
                 order by delayed_until limit 1",
                queue.tables.messages()
            ),
            // What is let go with a delay, the claims say.
            false => {
                format!("select min(due_ms) - {NOW_MS} from {} where owner is null", queue.tables.claims())
            }
        };
        let next: Option<Option<i64>> =
            sqlx::query_scalar(AssertSqlSafe(next)).fetch_optional(connection).await?;
        Ok(next.flatten().and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis))
    }

    async fn extend_claims(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let (offsets, attempts) = unzip(claims);
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"update {} c set due_ms = {NOW_MS} + $1
               from unnest($2::bigint[], $3::int[]) as held ("offset", attempt)
               where c."offset" = held."offset" and c.attempts = held.attempt and c.owner = $4
               returning c."offset""#,
            queue.tables.claims()
        )))
        .bind(queue.timeout_ms())
        .bind(offsets)
        .bind(attempts)
        .bind(&queue.owner)
        .fetch_all(connection)
        .await
    }

    /// The claim goes first: it is what is compared. Only a claim that is over can be taken by another
    /// worker meanwhile, which locks in the other order; should the two meet, one of them is told of a
    /// deadlock and tries again.
    async fn finish_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let (offsets, attempts) = unzip(claims);
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => {
                format!(r#"delete from {messages} m using gone where m."offset" = gone."offset""#)
            }
            OnAck::Mark => {
                format!(r#"update {messages} m set acked = true from gone where m."offset" = gone."offset""#)
            }
        };
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"with gone as (
                   delete from {} c using unnest($1::bigint[], $2::int[]) as held ("offset", attempt)
                   where c."offset" = held."offset" and c.attempts = held.attempt and c.owner = $3
                   returning c."offset"
               ), finished as ({finish})
               select "offset" from gone"#,
            queue.tables.claims()
        )))
        .bind(offsets)
        .bind(attempts)
        .bind(&queue.owner)
        .fetch_all(connection)
        .await
    }

    /// A delay is written into the messages table, where there is a column for it with an index, so that a
    /// million rows that wait cost nobody a look.
    async fn unclaim_rows(
        connection: &mut PgConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<()> {
        let offsets: Vec<i64> = releases.iter().map(|release| release.claim.offset).collect();
        let held: Vec<i32> = releases.iter().map(|release| attempts(release.claim.attempt)).collect();
        let tried: Vec<i32> = releases.iter().map(|release| attempts(release.attempts())).collect();
        let delays: Vec<i64> = releases.iter().map(|release| release.delay_ms()).collect();
        let delay = match queue.delays {
            true => format!(
                r#", delayed as (
                    update {} m set delayed_until = clock_timestamp() + freed.delay_ms * interval '1 millisecond'
                    from freed where m."offset" = freed."offset" and freed.delay_ms > 0
                )"#,
                queue.tables.messages()
            ),
            false => String::new(),
        };
        sqlx::query(AssertSqlSafe(format!(
            r#"with freed as (
                   update {} c set owner = null, due_ms = {NOW_MS} + held.delay_ms, attempts = held.tried
                   from unnest($1::bigint[], $2::int[], $3::int[], $4::bigint[])
                       as held ("offset", attempt, tried, delay_ms)
                   where c."offset" = held."offset" and c.attempts = held.attempt and c.owner = $5
                   returning c."offset", held.delay_ms
               ){delay}
               select count(*) from freed"#,
            queue.tables.claims()
        )))
        .bind(offsets)
        .bind(held)
        .bind(tried)
        .bind(delays)
        .bind(&queue.owner)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn sweep(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        let (messages, claims) = (tables.messages(), tables.claims());
        sqlx::query(AssertSqlSafe(format!(
            r#"delete from {claims} c where not exists (select from {messages} m where m."offset" = c."offset")"#
        )))
        .execute(connection)
        .await
        .map(drop)
    }
}

/// What an insert names beside the columns that every layout has. That a log has no `acked` keeps
/// messages for a queue out of one.
fn columns(delays: bool) -> log::Extra {
    match delays {
        true => log::Extra {
            columns: ", acked, delayed_until",
            values: ", false, to_timestamp(due_ms / 1000.0)",
            due: true,
        },
        false => log::Extra { columns: ", acked", values: ", false", due: false },
    }
}

fn unzip(claims: &[Claim]) -> (Vec<i64>, Vec<i32>) {
    claims.iter().map(|claim| (claim.offset, attempts(claim.attempt))).unzip()
}

fn attempts(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}
