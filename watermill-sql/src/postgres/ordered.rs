//! Queues in order by key.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{
    queue::{BYTES, STATEMENT_MS, by_attempt},
    rows,
};
use crate::{
    queue::{
        ASIDE_MS, Bounds, Claim, Claimed, KeyClaim, LOOKED_AT, Look, OnAck, OrderedDialect, Queue, Turn,
    },
    stored::Store,
};

/// The head of the key `k`.
const HEAD: &str = r#"where ordering_key = k and not acked order by "offset" limit 1"#;

#[async_trait]
impl OrderedDialect for Postgres {
    /// Nothing waits for a lock: a row that another has just now ends its key's run. All of a statement sees the same
    /// rows, but those that are locked are looked at again. What it cannot see is a claim of a key that is
    /// not committed yet, whose head was another row then: the unique index does.
    async fn claim_in_order(
        connection: &mut PgConnection,
        queue: &Queue,
        turn: Turn,
        Bounds { limit, run, looks }: Bounds,
        holders: &[i64],
    ) -> sqlx::Result<Look> {
        let claimed = sqlx::query(AssertSqlSafe(format!(
            r#"with looked_at as materialized (
                   select "offset", ordering_key from {messages}
                   where not acked and due_ms >= {first_ms} and due_ms <= {STATEMENT_MS}
                   order by due_ms, "offset" limit $3 for update skip locked
               ), ours as materialized (
                   select holds_key as k, "offset" as place from {messages}
                   where "offset" = any($6) and holds_key is not null and owner = $1 and due_ms > {STATEMENT_MS}
                   for update skip locked
               ), runs as (
                   select free.place, first."offset", first.n from (
                       select k, place, false as is_ours from (
                           select ordering_key as k, min("offset") as place from looked_at
                           where ordering_key is not null group by 1
                       ) keys
                       -- Not a join, for which a table that seems small would be read whole.
                       where (select h."offset" from {messages} h where h.holds_key = k limit 1) is null
                       union all
                       select k, place, true from ours
                   ) free cross join lateral (
                       select "offset", row_number() over (order by "offset") as n from (
                           select "offset" from {messages} where ordering_key = k and not acked
                             and (not is_ours or owner is distinct from $1 or due_ms <= {STATEMENT_MS})
                           order by "offset" limit $4
                       ) run
                   ) first
                   union all
                   select "offset", "offset", 1 from looked_at where ordering_key is null
               ), chosen as materialized (
                   select place, "offset", n from runs order by n, place limit $5
               ), locked as materialized (
                   select "offset", {BYTES} as bytes from {messages}
                   where "offset" = any(array(select "offset" from chosen)) and not acked
                     and (due_ms <= {STATEMENT_MS} or due_ms = {ASIDE_MS})
                   for update skip locked
               ), taken as materialized (
                   select place, "offset" from (
                       select place, "offset", sum(bytes) over (
                           order by n, place rows between unbounded preceding and 1 preceding
                       ) as before
                       from (
                           select place, c."offset", n, bytes,
                                  row_number() over (partition by place order by n) as place_in_run
                           from chosen c join locked l on l."offset" = c."offset"
                       ) run where place_in_run = n
                   ) counted where coalesce(before, 0) < $7
               ), claimed as (
                   update {messages} m
                   set owner = $1, due_ms = {STATEMENT_MS} + $2, attempts = m.attempts + 1,
                       holds_key = case when m."offset" = any(array(
                           select max("offset") from taken where place not in (select place from ours) group by place
                       )) then m.ordering_key end
                   where m."offset" = any(array(select "offset" from taken))
                   returning {columns}, created_at::timestamptz as created_at, attempts, ordering_key,
                             holds_key is not null
               )
               select claimed.*, {STATEMENT_MS}, (select count(*) from looked_at)
               from (select) one left join claimed on true"#,
            columns = rows::COLUMNS,
            messages = queue.tables.messages(),
            first_ms = turn.first_ms(),
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(bound(looks))
        .bind(bound(run))
        .bind(bound(limit))
        .bind(holders)
        .bind(bound(queue.batch_bytes))
        .fetch_all(connection)
        .await;
        let claimed = match claimed {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(Look::COLLIDED),
            claimed => claimed?,
        };
        let mut look = Look { rows: Vec::with_capacity(claimed.len()), looked_at: 0 };
        let mut store = Store::default();
        for row in &claimed {
            look.looked_at = usize::try_from(row.try_get::<i64, _>(9)?).unwrap_or(0);
            let Some(attempts) = row.try_get::<Option<i32>, _>(5)? else { break };
            let attempt = u32::try_from(attempts).unwrap_or(1);
            let key = row.try_get::<Option<i64>, _>(6)?;
            let holds = row.try_get(7)?;
            let row = Claimed::new(rows::read(row, 0, &mut store)?, attempt, row.try_get(8)?, None);
            look.rows.push(Claimed { key: key.map(|key| KeyClaim { key, holds }), ..row });
        }
        Ok(look)
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
                       select (select "offset" from {messages} {HEAD})
                       from (select distinct k from looked_at) keys
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
        statements += &format!(
            r#"update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" = any(array(
                   select (select "offset" from {messages} {HEAD}) from unnest({}) k
               ))"#,
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
                   select (select min(ordering_key) from {messages} where not acked and ordering_key > k), n + 1
                   from keys where k is not null and n < {LOOKED_AT}
               )
               update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" = any(array(
                   select (select "offset" from {messages} {HEAD}) from keys where k is not null
               ))"#,
            i64::MIN,
            messages = queue.tables.messages(),
        )));
        Ok(mend.execute(connection).await?.rows_affected() > 0)
    }
}

/// Numbers need no quotes.
fn array(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::bigint[]", numbers.join(","))
}

fn bound(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}
