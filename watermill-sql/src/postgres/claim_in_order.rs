//! Claiming in order by key.
//!
//! Nothing waits for a lock: a row that another has just now ends its key's run. All of a statement sees the same
//! rows, but those that are locked are looked at again. What it cannot see is a claim of a key that is not committed yet,
//! whose head was another row then: the unique index does.
//!
//! The index by key has no rows that hold one. So a claim of a single row, as most are, writes nothing there, which it would do
//! anywhere, and after each checkpoint a whole page for each row. Of keys that nobody holds it has all rows.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{
    queue::{BYTES, STATEMENT_MS},
    rows,
};
use crate::{
    queue::{ASIDE_MS, Bounds, Claimed, KeyClaim, Look, Queue, Turn},
    stored::Store,
};

/// What is read of a row that is claimed.
const RETURNING: &str = r#"returning "offset"::bigint, uuid, payload, metadata::text,
    created_at::timestamptz as created_at, attempts, ordering_key, holds_key is not null"#;

/// All of those, or one row of nulls, with how many were looked at.
const CLAIMED: &str = "select claimed.*, (extract(epoch from statement_timestamp()) * 1000)::bigint,
    (select count(*) from looked_at) from (select) one left join claimed on true";

/// See [`OrderedDialect::claim_in_order`](crate::queue::OrderedDialect::claim_in_order).
pub(super) async fn claim(
    connection: &mut PgConnection,
    queue: &Queue,
    turn: Turn,
    Bounds { limit, bytes, run, looks }: Bounds,
    holders: &[i64],
) -> sqlx::Result<Look> {
    // Statements of their own, because to plan the parts that are not needed takes as long as much of the rest.
    let is_enough_of_heads = matches!(turn, Turn::From(_));
    let statement = match holders {
        _ if is_enough_of_heads => heads_alone(queue, turn),
        [] => free_keys(queue, turn),
        _ => free_and_our_keys(queue, turn),
    };
    let claim = sqlx::query(AssertSqlSafe(statement))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(bound(looks))
        .bind(bound(limit))
        .bind(bound(bytes))
        .bind(turn.first_offset());
    let claim = if is_enough_of_heads { claim } else { claim.bind(bound(run)) };
    let claim = if is_enough_of_heads || holders.is_empty() { claim } else { claim.bind(holders) };
    let claimed = match claim.fetch_all(connection).await {
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

/// The heads of keys that nobody has, if there are as many as are wanted; otherwise nothing.
fn heads_alone(queue: &Queue, turn: Turn) -> String {
    let messages = queue.tables.messages();
    format!(
        r#"with {heads}, claimed as (
               update {messages} m
               set owner = $1, due_ms = {STATEMENT_MS} + $2, attempts = m.attempts + 1, holds_key = m.ordering_key
               where m."offset" = any(array(
                   select "offset" from (
                       select "offset", sum(bytes) over (
                           order by "offset" rows between unbounded preceding and 1 preceding
                       ) as before
                       from heads where not (select are_few from few)
                   ) counted where coalesce(before, 0) < $5
               ))
               {RETURNING}
           )
           {CLAIMED}"#,
        heads = heads(&messages, turn),
    )
}

/// Keys that nobody has. Where there are enough heads, nothing is read of what is behind them.
fn free_keys(queue: &Queue, turn: Turn) -> String {
    let messages = queue.tables.messages();
    let heads = heads(&messages, turn);
    let rest = rest(
        &messages,
        r#"select "offset", "offset", 1, bytes from heads where not (select are_few from few)"#,
        "",
    );
    format!(
        r#"with {heads}, runs as (
               select free.place, first."offset", first.n from free cross join lateral (
                   select "offset", row_number() over (order by "offset") as n from (
                       select "offset" from {messages}
                       where ordering_key = free.k and holds_key is null and not acked
                         and (select are_few from few)
                       order by "offset" limit $7
                   ) run
               ) first
               union all
               select "offset", "offset", 1 from looked_at
               where ordering_key is null and (select are_few from few)
           ), {rest}"#
    )
}

/// Beside them, what comes behind rows of keys that are ours.
fn free_and_our_keys(queue: &Queue, turn: Turn) -> String {
    let messages = queue.tables.messages();
    let looked_at = looked_at(&messages, turn);
    let rest = rest(
        &messages,
        "select null, null, null, null where false",
        "where place not in (select place from ours)",
    );
    format!(
        r#"with {looked_at}, ours as materialized (
               -- Locked by their offsets, whatever else an index could find them by.
               select k, place from (
                   select holds_key as k, "offset" as place, owner, due_ms from {messages}
                   where "offset" = any($8) for update skip locked
               ) held where k is not null and owner = $1 and due_ms > {STATEMENT_MS}
           ), runs as (
               select free.place, first."offset", first.n from (
                   select k, place, false as is_ours from (
                       select ordering_key as k, min("offset") as place from looked_at
                       where ordering_key is not null group by 1
                   ) keys
                   where (select h."offset" from {messages} h where h.holds_key = k limit 1) is null
                   union all
                   select k, place, true from ours
               ) free cross join lateral (
                   select "offset", row_number() over (order by "offset") as n from (
                       select "offset" from {messages} where ordering_key = k and holds_key is null and not acked
                         and (not is_ours or owner is distinct from $1 or due_ms <= {STATEMENT_MS})
                       order by "offset" limit $7
                   ) run
               ) first
               union all
               select "offset", "offset", 1 from looked_at where ordering_key is null
           ), {rest}"#
    )
}

/// Heads of keys that nobody has, and rows without a key, of those that are due. They are locked.
fn heads(messages: &str, turn: Turn) -> String {
    format!(
        r#"{looked_at}, free as materialized (
               select k, place, (
                   select h."offset" from {messages} h
                   where h.ordering_key = k and h.holds_key is null and not h.acked
                   order by h."offset" limit 1
               ) as head
               from (
                   select ordering_key as k, min("offset") as place from looked_at
                   where ordering_key is not null group by 1
               ) keys
               -- Not a join, for which a table that seems small would be read whole.
               where (select h."offset" from {messages} h where h.holds_key = k limit 1) is null
           ), heads as materialized (
               select "offset", bytes from looked_at
               where ordering_key is null or "offset" in (select place from free where head = place)
               order by "offset" limit $4
           ), few as materialized (
               select count(*) < $4 as are_few from heads
           )"#,
        looked_at = looked_at(messages, turn),
    )
}

/// Rows that are due, locked.
fn looked_at(messages: &str, turn: Turn) -> String {
    format!(
        r#"looked_at as materialized (
               select "offset", ordering_key, {BYTES} as bytes from {messages}
               where not acked and (due_ms, "offset") >= ({}, $6) and due_ms <= {STATEMENT_MS}
               order by due_ms, "offset" limit $3 for update skip locked
           )"#,
        turn.first_ms(),
    )
}

/// Takes what can be locked from the front of each of the `runs`, and `others`. The last row of each run holds its key,
/// of those that are `new`.
fn rest(messages: &str, others: &str, new: &str) -> String {
    format!(
        r#"chosen as materialized (
               select place, "offset", n from runs order by n, place limit $4
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
                       select place, "offset", n, bytes from (
                           select place, c."offset", n, bytes,
                                  row_number() over (partition by place order by n) as place_in_run
                           from chosen c join locked l on l."offset" = c."offset"
                       ) run where place_in_run = n
                       union all
                       {others}
                   ) free
               ) counted where coalesce(before, 0) < $5
           ), claimed as (
               update {messages} m
               set owner = $1, due_ms = {STATEMENT_MS} + $2, attempts = m.attempts + 1,
                   holds_key = case when m."offset" = any(array(
                       select max("offset") from taken {new} group by place
                   )) then m.ordering_key end
               where m."offset" = any(array(select "offset" from taken))
               {RETURNING}
           )
           {CLAIMED}"#
    )
}

fn bound(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}
