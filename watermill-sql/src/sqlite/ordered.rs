//! Queues in order by key. There is one writer at a time, so a statement is alone with the rows, and a row that is
//! committed later has the higher offset.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, Sqlite, SqliteConnection};

use super::{NOW_MS, queue::IS_HELD, rows};
use crate::{
    queue::{
        ASIDE_MS, Bounds, Claim, Claimed, KeyClaim, LOOKED_AT, Look, OnAck, OrderedDialect, Queue, Turn,
        json, json_pairs,
    },
    stored::Store,
};

/// The head of the key `k`.
const HEAD: &str = r#"where ordering_key = k and not acked order by "offset" limit 1"#;

#[async_trait]
impl OrderedDialect for Sqlite {
    async fn claim_in_order(
        connection: &mut SqliteConnection,
        queue: &Queue,
        turn: Turn,
        Bounds { limit, bytes, run, looks }: Bounds,
        holders: &[i64],
    ) -> sqlx::Result<Look> {
        let messages = queue.tables.messages();
        let due = format!(
            r#"from {messages} where not acked and due_ms >= {} and due_ms <= {NOW_MS}
               order by due_ms, "offset" limit {looks}"#,
            turn.first_ms()
        );
        // A look takes no lock, and there is mostly nothing.
        let looked_at: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from (select 1 {due})")))
                .fetch_one(&mut *connection)
                .await?;
        let mut look = Look { rows: Vec::new(), looked_at: usize::try_from(looked_at).unwrap_or(0) };
        if look.looked_at == 0 && holders.is_empty() {
            return Ok(look);
        }
        let next = format!(
            r#"select "offset" from {messages} where ordering_key = k and not acked
                 and (not is_ours or owner is not ?1 or due_ms <= {NOW_MS}) order by "offset" limit 1"#
        );
        let claimed = sqlx::query(AssertSqlSafe(format!(
            r#"with looked_at as materialized (
                   select "offset", ordering_key,
                          coalesce(length(payload), 0) + coalesce(length(metadata), 0) as bytes {due}
               ),
               ours as materialized (
                   select holds_key as k, "offset" as place from {messages}
                   where "offset" in (select value from json_each(?3)) and holds_key is not null and owner = ?1
                     and due_ms > {NOW_MS}
               ),
               free as materialized (
                   select ordering_key as k, min("offset") as place, false as is_ours from looked_at l
                   where ordering_key is not null
                     and not exists (select 1 from {messages} h where h.holds_key = l.ordering_key)
                   group by 1
                   union all
                   select k, place, true from ours
               ),
               heads as materialized (select k, place, is_ours, ({next}) as head from free),
               -- Whether there are not enough keys. Where there are, nothing is read of what is behind their heads.
               few as materialized (
                   select (select count(*) from heads where head = place and not is_ours)
                        + (select count(*) from looked_at where ordering_key is null) < {limit} as are_few
               ),
               ends as materialized (
                   select k, place, is_ours, head,
                          iif((select are_few from few), ({next} offset {run} - 1), head) as tail
                   from heads where is_ours or head = place or (select are_few from few)
               ),
               runs as (
                   select place, m."offset", due_ms, row_number() over (partition by place order by m."offset") as n,
                          coalesce(length(payload), 0) + coalesce(length(metadata), 0) as bytes
                   from ends join {messages} m on m.ordering_key = k and not m.acked
                       and m."offset" between head and coalesce(tail, {ASIDE_MS})
                       and (not is_ours or m.owner is not ?1 or m.due_ms <= {NOW_MS})
                   union all
                   select "offset", "offset", 0, 1, bytes from looked_at where ordering_key is null
               ),
               chosen as (select * from runs order by n, place limit {limit}),
               taken as materialized (
                   select place, "offset" from (
                       select place, "offset", sum(bytes) over (
                           order by n, place rows between unbounded preceding and 1 preceding
                       ) as before
                       from (
                           select *, row_number() over (partition by place order by n) as place_in_run
                           from chosen where due_ms <= {NOW_MS} or due_ms = {ASIDE_MS}
                       ) where place_in_run = n
                   ) where coalesce(before, 0) < {bytes}
               )
               update {messages}
               set owner = ?1, due_ms = {NOW_MS} + ?2, attempts = attempts + 1,
                   holds_key = iif("offset" in (
                       select max("offset") from taken where place not in (select place from ours) group by place
                   ), ordering_key, null)
               where "offset" in (select "offset" from taken)
               returning {}, attempts, {NOW_MS}, cast(ordering_key as blob), holds_key is not null"#,
            rows::COLUMNS
        )))
        .bind(&queue.owner)
        .bind(queue.timeout_ms())
        .bind(json(&holders))
        .fetch_all(connection)
        .await?;
        let mut store = Store::default();
        for row in &claimed {
            let key: Option<&[u8]> = row.try_get(7)?;
            let key = key.map(|key| KeyClaim { key: hash(key), holds: row.get(8) });
            let row = Claimed::new(rows::read(row, &mut store)?, row.try_get(5)?, row.try_get(6)?, None);
            look.rows.push(Claimed { key, ..row });
        }
        Ok(look)
    }

    async fn set_aside(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<u64> {
        let set = sqlx::query(AssertSqlSafe(format!(
            r#"with looked_at as materialized (
                   select "offset", ordering_key as k from {messages}
                   where not acked and due_ms >= 0 and due_ms <= {NOW_MS} and ordering_key is not null
                   order by due_ms, "offset" limit {LOOKED_AT}
               ),
               heads as materialized (
                   select k, (select "offset" from {messages} {HEAD}) as head
                   from (select distinct k from looked_at)
               )
               update {messages} set due_ms = {ASIDE_MS}, owner = null, holds_key = null
               where "offset" in (select "offset" from looked_at l join heads h on h.k = l.k and head < "offset")"#,
            messages = queue.tables.messages(),
        )));
        Ok(set.execute(connection).await?.rows_affected())
    }

    async fn end_holds(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<()> {
        let end = sqlx::query(AssertSqlSafe(format!(
            "update {} set owner = null, holds_key = null where holds_key is not null and due_ms <= {NOW_MS}",
            queue.tables.messages(),
        )));
        end.execute(connection).await.map(drop)
    }

    /// The rows know their keys. That it begins with what writes keeps the transaction from having seen what is old by
    /// then.
    async fn finish_in_order(
        connection: &mut SqliteConnection,
        queue: &Queue,
        claims: &[Claim],
        _keys: &[i64],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => format!("delete from {messages}"),
            OnAck::Mark => format!("update {messages} set acked = true, {}", queue.let_go()),
        };
        let mut transaction = connection.begin().await?;
        let finished: Vec<(i64, Option<String>)> = sqlx::query_as(AssertSqlSafe(format!(
            r#"{finish} where {IS_HELD} returning "offset", ordering_key"#
        )))
        .bind(json_pairs(claims))
        .bind(&queue.owner)
        .fetch_all(&mut *transaction)
        .await?;
        let (offsets, keys): (Vec<i64>, Vec<_>) = finished.into_iter().unzip();
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        sqlx::query(AssertSqlSafe(format!(
            r#"update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" in (
                   select (select "offset" from {messages} {HEAD}) from (select value as k from json_each(?))
                   -- Where nothing is aside, which one look tells, no key is looked up.
                   where exists (select 1 from {messages} where not acked and due_ms = {ASIDE_MS})
               )"#
        )))
        .bind(json(&keys))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(offsets)
    }

    async fn pass_holds(
        connection: &mut SqliteConnection,
        queue: &Queue,
        offsets: &[i64],
    ) -> sqlx::Result<()> {
        let pass = sqlx::query(AssertSqlSafe(format!(
            r#"update {} set holds_key = ordering_key
               where "offset" in (select value from json_each(?)) and owner = ?"#,
            queue.tables.messages(),
        )));
        pass.bind(json(&offsets)).bind(&queue.owner).execute(connection).await.map(drop)
    }

    async fn mend_keys(connection: &mut SqliteConnection, queue: &Queue) -> sqlx::Result<bool> {
        let mend = sqlx::query(AssertSqlSafe(format!(
            r#"with recursive keys (k, n) as (
                   select (select coalesce(ordering_key, '') from {messages}
                           where "offset" >= abs(random()) % (select max("offset") from {messages})
                           order by "offset" limit 1), 0
                   union all
                   select '', 0
                   union all
                   select (select min(ordering_key) from {messages} where not acked and ordering_key > k), n + 1
                   from keys where k is not null and n < {LOOKED_AT}
               )
               update {messages} set due_ms = 0 where due_ms = {ASIDE_MS} and "offset" in (
                   select (select "offset" from {messages} {HEAD}) from keys where k is not null
               )"#,
            messages = queue.tables.messages(),
        )));
        Ok(mend.execute(connection).await?.rows_affected() > 0)
    }
}

/// Tells the keys in the hands of one process apart.
fn hash(key: &[u8]) -> i64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key).cast_signed()
}
