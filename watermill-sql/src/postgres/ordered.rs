//! Queues in order by key.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{
    claim_in_order::claim,
    queue::{STATEMENT_MS, by_attempt},
};
use crate::queue::{ASIDE_MS, Bounds, Claim, LOOKED_AT, Look, OnAck, OrderedDialect, Queue, Turn};

#[async_trait]
impl OrderedDialect for Postgres {
    async fn claim_in_order(
        connection: &mut PgConnection,
        queue: &Queue,
        turn: Turn,
        bounds: Bounds,
        holders: &[i64],
    ) -> sqlx::Result<Look> {
        claim(connection, queue, turn, bounds, holders).await
    }

    async fn set_aside(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<u64> {
        let set = sqlx::query(AssertSqlSafe(format!(
            r#"with looked_at as materialized (
                   select "offset", ordering_key as k from {messages}
                   where not acked and due_ms >= 0 and due_ms <= {STATEMENT_MS} and ordering_key is not null
                   order by due_ms, "offset" limit {LOOKED_AT}
               ), heads as materialized (
                   select "offset", ordering_key as k from {messages}
                   where not acked and "offset" = any(array(
                       select {head} from (select distinct k from looked_at) keys
                   ))
                   for share skip locked
               ), behind as materialized (
                   select "offset" from {messages}
                   where not acked and due_ms <= {STATEMENT_MS} and "offset" = any(array(
                       select l."offset" from looked_at l join heads h on h.k = l.k and h."offset" < l."offset"
                   ))
                   for update skip locked
               )
               update {messages} set due_ms = {ASIDE_MS}, owner = null, holds_key = null
               where "offset" = any(array(select "offset" from behind))"#,
            messages = queue.tables.messages(),
            head = head(&queue.tables.messages()),
        )));
        Ok(set.execute(connection).await?.rows_affected())
    }

    async fn end_holds(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<()> {
        let end = sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} set owner = null, holds_key = null where "offset" = any(array(
                   select "offset" from {messages} where holds_key is not null and due_ms <= {STATEMENT_MS}
                   limit {LOOKED_AT} for update skip locked
               ))"#,
            messages = queue.tables.messages(),
        )));
        end.execute(connection).await.map(drop)
    }

    /// One message to the server, which makes a transaction of it. The statements see one after another what was
    /// committed before each, so that the second one sees what was set aside while the first one waited for a lock.
    async fn finish_in_order(
        connection: &mut PgConnection,
        queue: &Queue,
        claims: &[Claim],
        keys: &[i64],
    ) -> sqlx::Result<Vec<i64>> {
        let (messages, owner) = (queue.tables.messages(), &queue.owner);
        let finish = match queue.on_ack {
            OnAck::Delete => format!("delete from {messages}"),
            OnAck::Mark => format!("update {messages} set acked = true, {}", queue.let_go()),
        };
        let mut statements = String::new();
        for (attempt, offsets) in by_attempt(claims) {
            statements += &format!(
                r#"{finish} where "offset" = any({}) and attempts = {attempt} and owner = '{owner}'
                   returning "offset"::bigint;"#,
                array(&offsets),
            );
        }
        // Where nothing is aside, which one look tells, no key is looked up.
        statements += &format!(
            r#"update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" = any(array(
                   select {} from unnest({}) k
                   where (select true from {messages} where not acked and due_ms = {ASIDE_MS} limit 1)
               ))"#,
            head(&messages),
            array(keys),
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    async fn pass_holds(connection: &mut PgConnection, queue: &Queue, offsets: &[i64]) -> sqlx::Result<()> {
        let pass = sqlx::query(AssertSqlSafe(format!(
            r#"update {} set holds_key = ordering_key where "offset" = any($1) and owner = $2"#,
            queue.tables.messages(),
        )));
        pass.bind(offsets).bind(&queue.owner).execute(connection).await.map(drop)
    }

    async fn mend_keys(connection: &mut PgConnection, queue: &Queue) -> sqlx::Result<bool> {
        let mend = sqlx::query(AssertSqlSafe(format!(
            r#"with recursive keys (k, n) as (
                   select k, 0 from (values (hashtextextended(gen_random_uuid()::text, 0)), ({})) anywhere (k)
                   union all
                   select (
                       select min(ordering_key) from {messages}
                       where not acked and holds_key is null and ordering_key > k
                   ), n + 1
                   from keys where k is not null and n < {LOOKED_AT}
               )
               update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" = any(array(
                   select {} from keys where k is not null
               ))"#,
            i64::MIN,
            head(&queue.tables.messages()),
            messages = queue.tables.messages(),
        )));
        Ok(mend.execute(connection).await?.rows_affected() > 0)
    }
}

/// The offset of the head of the key `k`. One index has the row that holds the key, the other one those that do not.
fn head(messages: &str) -> String {
    format!(
        r#"least(
               (select "offset" from {messages} where holds_key = k and not acked limit 1),
               (select "offset" from {messages}
                where ordering_key = k and holds_key is null and not acked order by "offset" limit 1)
           )"#
    )
}

/// Numbers need no quotes.
fn array(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::bigint[]", numbers.join(","))
}
