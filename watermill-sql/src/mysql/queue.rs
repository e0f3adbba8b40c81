//! Queues: rows that are claimed with `skip locked`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection, Row as _};

use super::{NOW_MS, UNCUT, checks, connection::READ_COMMITTED, rows};
use crate::{
    error::Failure,
    queue::{
        ASIDE_MS, CLAIMS_LOOKED_AT, Claim, Claimed, OnAck, Queue, QueueDialect, Release, Turn, json,
        json_pairs,
    },
    stored::{Limit, Store},
    topic::Tables,
};

/// The rows of [`json_pairs`], to be joined with the messages.
const HELD: &str = "json_table(?, '$[*]' columns (o bigint path '$[0]', a int path '$[1]')) held";

/// The same for offsets alone.
pub(super) const OFFSETS: &str = "json_table(?, '$[*]' columns (o bigint path '$')) held";

/// The offsets that a statement before has put into a variable, in that order.
pub(super) const FOUND: &str =
    "json_table(@watermill_found, '$[*]' columns (n for ordinality, o bigint path '$')) found";

/// When Go's column says that a message is due. It has UTC text in the server's zone, which Go's sessions have, and
/// ours may not. A server that does not know its own zone by name converts nothing.
pub(super) const GO_DUE_MS: &str = "timestampdiff(microsecond, '1970-01-01',
    coalesce(convert_tz(delayed_until, @@session.time_zone, @@global.time_zone), delayed_until)) div 1000";

#[async_trait]
impl QueueDialect for MySql {
    async fn check_queue(connection: &mut MySqlConnection, tables: &Tables) -> Result<(), Failure> {
        checks::check_writable(connection, tables).await
    }

    /// A locking read of READ COMMITTED leaves no locks behind on what it passes over. One message to the server,
    /// which therefore does all of it or nothing: with the locks of a transaction in the
    /// hands of a process that is stopped, its rows would be out of everybody's sight for as long. What is written
    /// into it are numbers and a UUID.
    async fn claim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        turn: Turn,
        limit: Limit,
    ) -> sqlx::Result<Vec<Claimed>> {
        let (messages, owner, timeout_ms) = (queue.tables.messages(), &queue.owner, queue.timeout_ms());
        let claim = format!(
            "{READ_COMMITTED};
             start transaction;
             {UNCUT} select json_arrayagg(counted.o) into @watermill_found from (
                 select o, sum(bytes) over (
                     order by due_ms, o rows between unbounded preceding and 1 preceding
                 ) as before_it
                 from (
                     select `offset` as o, due_ms,
                            coalesce(length(payload), 0) + coalesce(length(metadata), 0) as bytes
                     from {messages}
                     where acked = 0 and due_ms >= {} and due_ms <= {NOW_MS}
                     order by due_ms, `offset` limit {} for update skip locked
                 ) free
             ) counted where coalesce(before_it, 0) < {};
             update {FOUND} straight_join {messages} m on m.`offset` = found.o
             set m.owner = '{owner}', m.due_ms = {NOW_MS} + {timeout_ms}, m.attempts = m.attempts + 1;
             commit;
             select {}, cast(attempts as signed), cast({NOW_MS} as signed), cast({GO_DUE_MS} as signed)
             from {FOUND} straight_join {messages} m on m.`offset` = found.o
             where m.owner = '{owner}' order by found.n",
            turn.first_ms(),
            limit.rows,
            limit.bytes,
            rows::COLUMNS,
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(claim)).fetch_all(&mut *connection).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                // It may have got as far as to begin.
                sqlx::raw_sql("rollback").execute(connection).await?;
                return Err(error);
            }
        };
        let mut store = Store::default();
        rows.iter()
            .map(|row| {
                let attempt = u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(1);
                Ok(Claimed::new(rows::read(row, &mut store)?, attempt, row.try_get(6)?, row.try_get(7)?))
            })
            .collect()
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
            "select cast(min(due_ms) - {NOW_MS} as signed) from {} where acked = 0 and due_ms > {NOW_MS}
               and due_ms < {ASIDE_MS}",
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

    async fn finish_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => {
                format!("delete m from {FOUND} straight_join {messages} m on m.`offset` = found.o")
            }
            OnAck::Mark => format!(
                "update {FOUND} straight_join {messages} m on m.`offset` = found.o
                 set m.acked = 1, {}",
                queue.let_go()
            ),
        };
        change_held(connection, queue, claims, &finish).await
    }

    async fn unclaim_rows(
        connection: &mut MySqlConnection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<Vec<i64>> {
        let claims: Vec<Claim> = releases.iter().map(|release| release.claim).collect();
        let changes: Vec<_> = releases
            .iter()
            .map(|release| {
                let (due_ms, from_now) = release.due();
                (release.claim.offset, release.attempts(), due_ms, i64::from(from_now))
            })
            .collect();
        let unclaim = format!(
            "update {FOUND} straight_join json_table('{}', '$[*]' columns (
                 o bigint path '$[0]', attempts int path '$[1]', due_ms bigint path '$[2]', from_now int path '$[3]'
             )) released on released.o = found.o straight_join {} m on m.`offset` = found.o
             set {}, m.due_ms = released.due_ms + released.from_now * {NOW_MS}, m.attempts = released.attempts",
            json(&changes),
            queue.tables.messages(),
            queue.let_go(),
        );
        change_held(connection, queue, &claims, &unclaim).await
    }
}

/// Changes those of the rows that are ours, of which [`FOUND`] has the offsets, and returns these. One message to the
/// server, as a claim is, with a transaction of its own unless there is one.
pub(super) async fn change_held(
    connection: &mut MySqlConnection,
    queue: &Queue,
    claims: &[Claim],
    change: &str,
) -> sqlx::Result<Vec<i64>> {
    let has_transaction = connection.is_in_transaction();
    let (begin, commit) = match has_transaction {
        true => ("do 0".to_owned(), "do 0"),
        false => (format!("{READ_COMMITTED}; start transaction"), "commit"),
    };
    let statements = format!(
        "{begin};
         {UNCUT} select json_arrayagg(ours.o) into @watermill_found from (
             select m.`offset` as o
             from json_table('{}', '$[*]' columns (o bigint path '$[0]', a int path '$[1]')) held
             straight_join {} m on m.`offset` = held.o and m.attempts = held.a
             where m.owner = '{}' for update
         ) ours;
         {change};
         {commit};
         select found.o from {FOUND}",
        json_pairs(claims),
        queue.tables.messages(),
        queue.owner,
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(&mut *connection).await;
    match rows {
        Ok(rows) => rows.iter().map(|row| row.try_get(0)).collect(),
        Err(error) => {
            if !has_transaction {
                sqlx::raw_sql("rollback").execute(connection).await?;
            }
            Err(error)
        }
    }
}

fn offsets(claims: &[Claim]) -> Vec<i64> {
    claims.iter().map(|claim| claim.offset).collect()
}
