//! Queues: rows that are claimed with `skip locked`.
//!
//! A worker first locks rows that look free, in READ COMMITTED, and then reads their claims, with a
//! snapshot that is newer than the locks: whoever had them before has committed.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection, Row as _};

use super::{NOW_MS, log, probe, schema};
use crate::{
    PayloadColumn, SqlPublisherConfig,
    error::Failure,
    marshaler::Record,
    queue::{Claim, Claimed, OnAck, Queue, QueueDialect, Release},
    topic::Tables,
};

/// A locking read of READ COMMITTED leaves no locks behind on what it passes over.
const BEGIN: &str = "set transaction isolation level read committed; start transaction";
/// Pairs of offset and attempt, as rows.
const HELD: &str = "json_table(?, '$[*]' columns (o bigint path '$[0]', a int path '$[1]')) held";
/// Offsets, as rows.
const OFFSETS: &str = "json_table(?, '$[*]' columns (o bigint path '$')) held";

#[async_trait]
impl QueueDialect for MySql {
    /// The end of what a `timestamp` holds, on the 19th of January 2038.
    const DUE_MS_MAX: i64 = 2_147_483_647_000;

    async fn create_queue(
        connection: &mut MySqlConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_queue(connection, tables, payload).await
    }

    async fn create_claims(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_claims(connection, tables).await
    }

    async fn check_queue(connection: &mut MySqlConnection, tables: &Tables) -> Result<(), Failure> {
        probe::check_writable(connection, tables).await
    }

    async fn enqueue(
        connection: &mut MySqlConnection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        delays: bool,
    ) -> sqlx::Result<()> {
        let extra = match delays {
            true => log::Extra {
                columns: ", acked, delayed_until",
                values: ",0,from_unixtime(?/1000.0)",
                due: true,
            },
            false => log::Extra { columns: ", acked", values: ",0", due: false },
        };
        log::insert_into(connection, tables, records, config, &extra).await
    }

    async fn claim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Vec<Claimed>> {
        let mut transaction = connection.begin_with(BEGIN).await?;
        let mut offsets = match queue.delays {
            true => {
                lock(&mut transaction, queue, "m.delayed_until <= now(3) order by m.delayed_until", limit)
                    .await?
            }
            false => Vec::new(),
        };
        if offsets.len() < limit {
            let fresh = match queue.delays {
                true => "m.delayed_until is null and",
                false => "",
            };
            let fresh = format!("{fresh} m.`offset` > {after} order by m.`offset`");
            offsets.extend(lock(&mut transaction, queue, &fresh, limit - offsets.len()).await?);
        }
        if offsets.is_empty() {
            transaction.commit().await?;
            return Ok(Vec::new());
        }
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        let delayed = if queue.delays { "m.delayed_until is not null" } else { "false" };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "select m.`offset`, m.uuid, m.payload, m.metadata, cast(unix_timestamp(m.created_at) as signed),
                    cast(coalesce(c.attempts, 0) as signed), cast(coalesce(c.due_ms, 0) <= {NOW_MS} as signed),
                    cast({delayed} as signed), cast({NOW_MS} as signed)
             from {OFFSETS} straight_join {messages} m on m.`offset` = held.o
             left join {claims} c on c.`offset` = m.`offset` order by m.`offset`"
        )))
        .bind(json(&offsets))
        .fetch_all(&mut *transaction)
        .await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<i64, _>(6)? == 0 {
                continue;
            }
            let read = log::read(row)?;
            let attempts = u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(0);
            claimed.push(Claimed {
                claim: Claim { offset: read.position.offset, attempt: attempts.saturating_add(1) },
                row: read,
                delayed: row.try_get::<i64, _>(7)? != 0,
                now_ms: row.try_get(8)?,
            });
        }
        let held: Vec<Claim> = claimed.iter().map(|claimed| claimed.claim).collect();
        sqlx::query(AssertSqlSafe(format!(
            "insert into {claims} (`offset`, owner, due_ms, attempts)
             select held.o, ?, {NOW_MS} + ?, held.a from {HELD}
             on duplicate key update owner = values(owner), due_ms = values(due_ms), attempts = values(attempts)"
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(pairs(&held))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(claimed)
    }

    async fn next_due(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next = match queue.delays {
            true => format!(
                "select cast(timestampdiff(microsecond, now(6), min(delayed_until)) div 1000 as signed)
                 from {} where acked = 0 and delayed_until > now(3)",
                queue.tables.messages()
            ),
            // What is let go with a delay, the claims say.
            false => {
                format!("select min(due_ms) - {NOW_MS} from {} where owner is null", queue.tables.claims())
            }
        };
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(next)).fetch_one(connection).await?;
        Ok(next.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis))
    }

    async fn extend_claims(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let table = queue.tables.claims();
        // (The client asks for the number of rows that were found, changed or not.)
        let extended = sqlx::query(AssertSqlSafe(format!(
            "update {HELD} straight_join {table} c on c.`offset` = held.o and c.attempts = held.a
             set c.due_ms = {NOW_MS} + ? where c.owner = ?"
        )))
        .bind(pairs(claims))
        .bind(queue.timeout_ms())
        .bind(&queue.owner)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if extended == claims.len() as u64 {
            return Ok(claims.iter().map(|claim| claim.offset).collect());
        }
        ours(connection, queue, claims, "").await
    }

    async fn finish_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let mut transaction = connection.begin().await?;
        let ours = ours(&mut transaction, queue, claims, "for update").await?;
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        let finish = match queue.on_ack {
            OnAck::Delete => format!(
                "delete c, m from {OFFSETS} straight_join {claims} c on c.`offset` = held.o
                 left join {messages} m on m.`offset` = c.`offset`"
            ),
            OnAck::Mark => {
                format!("update {OFFSETS} straight_join {messages} m on m.`offset` = held.o set m.acked = 1")
            }
        };
        let ours_json = json(&ours);
        sqlx::query(AssertSqlSafe(finish)).bind(&ours_json).execute(&mut *transaction).await?;
        if queue.on_ack == OnAck::Mark {
            sqlx::query(AssertSqlSafe(format!(
                "delete c from {OFFSETS} straight_join {claims} c on c.`offset` = held.o"
            )))
            .bind(&ours_json)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(ours)
    }

    async fn unclaim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<()> {
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        let mut transaction = connection.begin().await?;
        for release in releases {
            let freed = sqlx::query(AssertSqlSafe(format!(
                "update {claims} set owner = null, due_ms = {NOW_MS} + ?, attempts = ?
                 where `offset` = ? and attempts = ? and owner = ?"
            )))
            .bind(release.delay_ms())
            .bind(release.attempts())
            .bind(release.claim.offset)
            .bind(release.claim.attempt)
            .bind(&queue.owner)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if freed > 0 && queue.delays && !release.delay.is_zero() {
                sqlx::query(AssertSqlSafe(format!(
                    "update {messages} set delayed_until = least(now(6) + interval ? microsecond,
                                                                 from_unixtime(2147483647))
                     where `offset` = ?"
                )))
                .bind(release.delay_ms().saturating_mul(1000))
                .bind(release.claim.offset)
                .execute(&mut *transaction)
                .await?;
            }
        }
        transaction.commit().await
    }

    async fn sweep(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        let (messages, claims) = (tables.messages(), tables.claims());
        sqlx::query(AssertSqlSafe(format!(
            "delete c from {claims} c left join {messages} m on m.`offset` = c.`offset` where m.`offset` is null"
        )))
        .execute(connection)
        .await
        .map(drop)
    }
}

/// Locks rows that look free and that nobody has locked.
async fn lock(
    connection: &mut MySqlConnection,
    queue: &Queue,
    which: &str,
    limit: usize,
) -> sqlx::Result<Vec<i64>> {
    let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
    sqlx::query_scalar(AssertSqlSafe(format!(
        "select m.`offset` from {messages} m
         where m.acked = 0
           and coalesce((select c.due_ms from {claims} c where c.`offset` = m.`offset`), 0) <= {NOW_MS}
           and {which} limit ? for update skip locked"
    )))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
}

/// Which of these are ours.
async fn ours(
    connection: &mut MySqlConnection,
    queue: &Queue,
    claims: &[Claim],
    lock: &str,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(AssertSqlSafe(format!(
        "select c.`offset` from {HELD} straight_join {} c on c.`offset` = held.o and c.attempts = held.a
         where c.owner = ? {lock}",
        queue.tables.claims()
    )))
    .bind(pairs(claims))
    .bind(&queue.owner)
    .fetch_all(connection)
    .await
}

fn pairs(claims: &[Claim]) -> String {
    json(&claims.iter().map(|claim| (claim.offset, claim.attempt)).collect::<Vec<_>>())
}

fn json(numbers: &impl serde::Serialize) -> String {
    // Numbers always serialise.
    serde_json::to_string(numbers).unwrap_or_default()
}
