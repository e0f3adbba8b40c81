//! Queues. There is one writer at a time, so a statement that claims rows is alone with them.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, Sqlite, SqliteConnection};

use super::{NOW_MS, log, schema};
use crate::{
    PayloadColumn, SqlPublisherConfig,
    error::{Failure, Trouble},
    marshaler::Record,
    queue::{Claim, Claimed, OnAck, Queue, QueueDialect, Release},
    topic::Tables,
};

/// Pairs of offset and attempt, as `json_each` takes them apart.
const HELD: &str = "(select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?1))";

#[async_trait]
impl QueueDialect for Sqlite {
    const DUE_MS_MAX: i64 = i64::MAX;

    /// The payload column holds anything.
    async fn create_queue(
        connection: &mut SqliteConnection,
        tables: &Tables,
        _payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        schema::create_queue(connection, tables).await
    }

    async fn create_claims(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        schema::create_claims(connection, tables).await
    }

    /// There are no queues of Go's here, which could lack a column.
    async fn check_queue(connection: &mut SqliteConnection, tables: &Tables) -> Result<(), Failure> {
        let name = tables.messages_name();
        let columns = schema::columns(connection, &name).await.map_err(Failure::of::<Sqlite>)?;
        match columns.iter().any(|column| column == "delayed_until") {
            true => Ok(()),
            false => Err(Failure::because(
                Trouble::Topic,
                format!(
                    "the table {name:?} has no column delayed_until: add one, an integer that may be null"
                ),
            )),
        }
    }

    async fn enqueue(
        connection: &mut SqliteConnection,
        tables: &Tables,
        records: &[Record],
        _config: &SqlPublisherConfig,
        _delays: bool,
    ) -> sqlx::Result<()> {
        log::insert_into(connection, tables, records, true).await
    }

    async fn claim_rows(
        connection: &mut SqliteConnection,
        queue: &Queue,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Vec<Claimed>> {
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        let free = format!(
            r#"not m.acked and coalesce((select c.due_ms from {claims} c where c."offset" = m."offset"), 0) <= {NOW_MS}"#
        );
        // A look takes no lock, and there is mostly nothing.
        let candidates = format!(
            r#"select * from (
                   select "offset" from {messages} m where {free} and m.delayed_until <= {NOW_MS}
                   order by m.delayed_until limit ?1
               )
               union all
               select * from (
                   select "offset" from {messages} m
                   where {free} and m.delayed_until is null and m."offset" > ?2
                   order by m."offset" limit ?1
               )
               limit ?1"#
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let is_there: bool = sqlx::query_scalar(AssertSqlSafe(format!("select exists ({candidates})")))
            .bind(limit)
            .bind(after)
            .fetch_one(&mut *connection)
            .await?;
        if !is_there {
            return Ok(Vec::new());
        }
        let claimed: Vec<(i64, u32)> = sqlx::query_as(AssertSqlSafe(format!(
            r#"insert into {claims} as c ("offset", owner, due_ms, attempts)
               select "offset", ?3, {NOW_MS} + ?4, 1 from ({candidates}) where true
               on conflict do update
                   set owner = excluded.owner, due_ms = excluded.due_ms, attempts = c.attempts + 1
               returning "offset", attempts"#
        )))
        .bind(limit)
        .bind(after)
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .fetch_all(&mut *connection)
        .await?;
        let offsets: Vec<i64> = claimed.iter().map(|(offset, _)| *offset).collect();
        let rows = sqlx::query(AssertSqlSafe(format!(
            r#"select {}, delayed_until is not null, {NOW_MS} from {messages}
               where "offset" in (select value from json_each(?)) order by "offset""#,
            log::COLUMNS
        )))
        .bind(json(&offsets))
        .fetch_all(connection)
        .await?;
        let attempts: std::collections::HashMap<i64, u32> = claimed.into_iter().collect();
        rows.iter()
            .map(|row| {
                let read = log::read(row)?;
                let offset = read.position.offset;
                Ok(Claimed {
                    claim: Claim { offset, attempt: attempts.get(&offset).copied().unwrap_or(1) },
                    row: read,
                    delayed: row.try_get(5)?,
                    now_ms: row.try_get(6)?,
                })
            })
            .collect()
    }

    async fn next_due(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select min(delayed_until) - {NOW_MS} from {} where not acked and delayed_until > {NOW_MS}",
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
            r#"update {} set due_ms = {NOW_MS} + ?3
               where ("offset", attempts) in {HELD} and owner = ?2 returning "offset""#,
            queue.tables.claims()
        )))
        .bind(held(claims))
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
        let mut transaction = connection.begin().await?;
        let gone: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            r#"delete from {} where ("offset", attempts) in {HELD} and owner = ?2 returning "offset""#,
            queue.tables.claims()
        )))
        .bind(held(claims))
        .bind(&queue.owner)
        .fetch_all(&mut *transaction)
        .await?;
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => format!("delete from {messages}"),
            OnAck::Mark => format!("update {messages} set acked = true"),
        };
        sqlx::query(AssertSqlSafe(format!(r#"{finish} where "offset" in (select value from json_each(?))"#)))
            .bind(json(&gone))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(gone)
    }

    async fn unclaim_rows(
        connection: &mut SqliteConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<()> {
        let (messages, claims) = (queue.tables.messages(), queue.tables.claims());
        let mut transaction = connection.begin().await?;
        for release in releases {
            let freed = sqlx::query(AssertSqlSafe(format!(
                r#"update {claims} set owner = null, due_ms = {NOW_MS} + ?4, attempts = ?5
                   where "offset" = ?1 and attempts = ?2 and owner = ?3"#
            )))
            .bind(release.claim.offset)
            .bind(release.claim.attempt)
            .bind(&queue.owner)
            .bind(release.delay_ms())
            .bind(release.attempts())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if freed > 0 && !release.delay.is_zero() {
                sqlx::query(AssertSqlSafe(format!(
                    r#"update {messages} set delayed_until = {NOW_MS} + ?2 where "offset" = ?1"#
                )))
                .bind(release.claim.offset)
                .bind(release.delay_ms())
                .execute(&mut *transaction)
                .await?;
            }
        }
        transaction.commit().await
    }

    async fn sweep(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        let (messages, claims) = (tables.messages(), tables.claims());
        sqlx::query(AssertSqlSafe(format!(
            r#"delete from {claims} where "offset" not in (select "offset" from {messages})"#
        )))
        .execute(connection)
        .await
        .map(drop)
    }
}

fn held(claims: &[Claim]) -> String {
    json(&claims.iter().map(|claim| (claim.offset, claim.attempt)).collect::<Vec<_>>())
}

fn json(numbers: &impl serde::Serialize) -> String {
    // Numbers always serialise.
    serde_json::to_string(numbers).unwrap_or_default()
}
