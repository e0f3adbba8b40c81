//! Queues in order by key.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::{
    NOW_MS, UNCUT,
    connection::READ_COMMITTED,
    queue::{FOUND, GO_DUE_MS, OFFSETS, change_held},
    rows,
};
use crate::{
    queue::{
        ASIDE_MS, Bounds, Claim, Claimed, KeyClaim, LOOKED_AT, Look, OnAck, OrderedDialect, Queue, Turn, json,
    },
    stored::Store,
};

/// What was looked at: offsets and keys.
const LOOKED: &str =
    "json_table(@watermill_looked, '$[*]' columns (o bigint path '$[0]', k bigint path '$[1]')) looked";
/// Keys of it that nobody has: each with the first row of it that was looked at, and its head.
const FREE: &str = "json_table(@watermill_free, '$[*]' columns (
    k bigint path '$[0]', place bigint path '$[1]', o bigint path '$[2]')) free";
/// Rows that hold keys for us, and the keys.
const OURS: &str =
    "json_table(@watermill_ours, '$[*]' columns (o bigint path '$[0]', k bigint path '$[1]')) ours";
/// What of it is chosen: offsets, which run each belongs to, and its place in that.
const CHOSEN: &str = "json_table(@watermill_chosen, '$[*]' columns (
    o bigint path '$[0]', place bigint path '$[1]', n int path '$[2]')) chosen";
/// What of that is ours to change.
const LOCKED: &str = "json_table(@watermill_locked, '$[*]' columns (
    o bigint path '$[0]', place bigint path '$[1]', n int path '$[2]', bytes bigint path '$[3]')) locked";
/// What is claimed, and which of it are the last rows of runs.
const TAKEN: &str = "json_table(@watermill_taken, '$[*]' columns (
    o bigint path '$[0]', is_last int path '$[1]')) taken";
/// The first rows of keys.
const FIRSTS: &str = "json_table(@watermill_firsts, '$[*]' columns (o bigint path '$')) firsts";
/// How many were found.
const COUNT: &str = "select cast(coalesce(json_length(@watermill_found), 0) as signed)";
/// Keys that are done with.
const KEYS: &str = "json_table(@watermill_keys, '$[*]' columns (k bigint path '$')) ended";

/// The head of the key `k`, of a table that is called so.
fn head(messages: &str) -> String {
    format!(
        "select x.`offset` from {messages} x where x.acked = 0 and x.ordering_key = k order by x.`offset` limit 1"
    )
}

#[async_trait]
impl OrderedDialect for MySql {
    /// One message to the server, as a claim without order is. Where there are enough keys, nothing is read of what is
    /// behind their heads. Nothing waits for a lock: a row that another has just now ends
    /// its key's run. A claim of a key that is not committed yet, whose head was another row then, is found by the unique
    /// index.
    async fn claim_in_order(
        connection: &mut MySqlConnection,
        queue: &Queue,
        turn: Turn,
        Bounds { limit, bytes, run, looks }: Bounds,
        holders: &[i64],
    ) -> sqlx::Result<Look> {
        let (messages, owner, timeout_ms) = (queue.tables.messages(), &queue.owner, queue.timeout_ms());
        // One after another, because the server would read all rows of a key to number them.
        let next = |after: &str| {
            format!(
                "select x.`offset` from {messages} x where x.acked = 0 and x.ordering_key = k {after}
                   and (not is_ours or x.owner is null or x.owner <> '{owner}' or x.due_ms <= {NOW_MS})
                 order by x.`offset` limit 1"
            )
        };
        let (first, next, holders) = (next(""), next("and x.`offset` > o"), json(&holders));
        let head = head(&messages);
        let claim = format!(
            "{READ_COMMITTED};
             start transaction;
             {UNCUT} select json_arrayagg(json_array(due.o, due.k)) into @watermill_looked from (
                 select `offset` as o, ordering_key as k from {messages}
                 where acked = 0 and due_ms >= {} and due_ms <= {NOW_MS}
                 order by due_ms, `offset` limit {looks} for update skip locked
             ) due;
             {UNCUT} select json_arrayagg(json_array(held.o, held.k)) into @watermill_ours from (
                 select m.`offset` as o, m.holds_key as k
                 from json_table('{holders}', '$[*]' columns (o bigint path '$')) holders
                 straight_join {messages} m on m.`offset` = holders.o
                 where m.holds_key is not null and m.owner = '{owner}' and m.due_ms > {NOW_MS}
                 for update skip locked
             ) held;
             {UNCUT} select json_arrayagg(json_array(heads.k, heads.place, heads.o)) into @watermill_free from (
                 select k, place, ({head}) as o from (
                     select looked.k, min(looked.o) as place from {LOOKED}
                     where looked.k is not null
                       and not exists (select 1 from {messages} h where h.holds_key = looked.k)
                     group by looked.k
                 ) ks
             ) heads;
             set @watermill_run = if(
                 (select count(*) from {LOOKED} where looked.k is null)
                 + (select count(*) from {FREE} where free.o = free.place) < {limit}, {run}, 1);
             {UNCUT} select json_arrayagg(json_array(run.o, run.place, run.n)) into @watermill_chosen from (
                 with recursive runs (k, place, is_ours, n, o) as (
                     select free.k, free.place, 0, 1, free.o from {FREE}
                     where free.o = free.place or @watermill_run > 1
                     union all
                     select k, o, 1, 1, ({first}) from (select ours.k, ours.o, 1 as is_ours from {OURS}) held
                     union all
                     select k, place, is_ours, n + 1, ({next}) from runs where n < @watermill_run and o is not null
                 )
                 select o, place, n from runs where o is not null
                 union all
                 select looked.o, looked.o, 1 from {LOOKED} where looked.k is null
                 order by n, place limit {limit}
             ) run;
             {UNCUT} select json_arrayagg(json_array(free.o, free.place, free.n, free.bytes)) into @watermill_locked from (
                 select m.`offset` as o, chosen.place, chosen.n,
                        coalesce(length(m.payload), 0) + coalesce(length(m.metadata), 0) as bytes
                 from {CHOSEN} straight_join {messages} m on m.`offset` = chosen.o
                 where m.acked = 0 and (m.due_ms <= {NOW_MS} or m.due_ms = {ASIDE_MS})
                 for update skip locked
             ) free;
             {UNCUT} select json_arrayagg(run.o), json_arrayagg(json_array(run.o, if(run.is_last, 1, 0)))
             into @watermill_found, @watermill_taken from (
                 select o, lead(o) over (partition by place order by n) is null
                           and place not in (select ours.o from {OURS}) as is_last from (
                     select o, place, n, sum(bytes) over (
                         order by n, place rows between unbounded preceding and 1 preceding
                     ) as before_it
                     from (
                         select locked.*, row_number() over (partition by place order by n) as place_in_run
                         from {LOCKED}
                     ) own where place_in_run = n
                 ) counted where coalesce(before_it, 0) < {}
             ) run;
             update {TAKEN} straight_join {messages} m on m.`offset` = taken.o
             set m.owner = '{owner}', m.due_ms = {NOW_MS} + {timeout_ms}, m.attempts = m.attempts + 1,
                 m.holds_key = if(taken.is_last, m.ordering_key, null);
             commit;
             select cast(coalesce(json_length(@watermill_looked), 0) as signed);
             select {}, cast(attempts as signed), cast({NOW_MS} as signed), cast({GO_DUE_MS} as signed),
                    ordering_key, holds_key is not null
             from {FOUND} straight_join {messages} m on m.`offset` = found.o where m.owner = '{owner}'",
            turn.first_ms(),
            bytes,
            rows::COLUMNS,
        );
        let answers = sqlx::raw_sql(AssertSqlSafe(claim)).fetch_all(&mut *connection).await;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                // It may have got as far as to begin.
                sqlx::raw_sql("rollback").execute(connection).await?;
                return match error.as_database_error().is_some_and(|error| error.is_unique_violation()) {
                    true => Ok(Look::COLLIDED),
                    false => Err(error),
                };
            }
        };
        let Some((looked_at, claimed)) = answers.split_first() else { return Ok(Look::COLLIDED) };
        let looked_at = usize::try_from(looked_at.try_get::<i64, _>(0)?).unwrap_or(0);
        let mut look = Look { rows: Vec::with_capacity(claimed.len()), looked_at };
        let mut store = Store::default();
        for row in claimed {
            let attempt = u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(1);
            let key = row.try_get::<Option<i64>, _>(8)?;
            let holds = row.try_get::<i64, _>(9)? != 0;
            let row = Claimed::new(rows::read(row, &mut store)?, attempt, row.try_get(6)?, row.try_get(7)?);
            look.rows.push(Claimed { key: key.map(|key| KeyClaim { key, holds }), ..row });
        }
        Ok(look)
    }

    async fn set_aside(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<u64> {
        let messages = queue.tables.messages();
        let set_aside = format!(
            "{READ_COMMITTED};
             start transaction;
             {UNCUT} select json_arrayagg(json_array(due.o, due.k)) into @watermill_looked from (
                 select `offset` as o, ordering_key as k from {messages}
                 where acked = 0 and due_ms >= 0 and due_ms <= {NOW_MS} and ordering_key is not null
                 order by due_ms, `offset` limit {LOOKED_AT} for update skip locked
             ) due;
             {UNCUT} select json_arrayagg(firsts.o) into @watermill_found from (
                 select ({head}) as o from (select distinct k from {LOOKED}) ks
             ) firsts;
             {UNCUT} select json_arrayagg(json_array(heads.o, heads.k)) into @watermill_chosen from (
                 select m.`offset` as o, m.ordering_key as k
                 from {FOUND} straight_join {messages} m on m.`offset` = found.o
                 where m.acked = 0 for update skip locked
             ) heads;
             {UNCUT} select json_arrayagg(looked.o) into @watermill_found from {LOOKED}
             join json_table(@watermill_chosen, '$[*]' columns (o bigint path '$[0]', k bigint path '$[1]')) heads
             on heads.k = looked.k and heads.o < looked.o;
             update {FOUND} straight_join {messages} m on m.`offset` = found.o
             set m.due_ms = {ASIDE_MS}, m.owner = null, m.holds_key = null;
             commit;
             {COUNT}",
            head = head(&messages),
        );
        counted(connection, set_aside).await
    }

    async fn end_holds(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<()> {
        let messages = queue.tables.messages();
        let end = format!(
            "{READ_COMMITTED};
             start transaction;
             {UNCUT} select json_arrayagg(gone.o) into @watermill_found from (
                 select `offset` as o from {messages} where holds_key is not null and due_ms <= {NOW_MS}
                 limit {LOOKED_AT} for update skip locked
             ) gone;
             update {FOUND} straight_join {messages} m on m.`offset` = found.o
             set m.owner = null, m.holds_key = null;
             commit;
             {COUNT}"
        );
        counted(connection, end).await.map(drop)
    }

    /// What is read between the changes is read after the locks of the first have been waited for.
    async fn finish_in_order(
        connection: &mut MySqlConnection,
        queue: &Queue,
        claims: &[Claim],
        keys: &[i64],
    ) -> sqlx::Result<Vec<i64>> {
        let messages = queue.tables.messages();
        let finish = match queue.on_ack {
            OnAck::Delete => {
                format!("delete m from {FOUND} straight_join {messages} m on m.`offset` = found.o")
            }
            OnAck::Mark => format!(
                "update {FOUND} straight_join {messages} m on m.`offset` = found.o set m.acked = 1, {}",
                queue.let_go()
            ),
        };
        let finish = format!(
            "{finish};
             set @watermill_keys = '{}';
             {UNCUT} select json_arrayagg(heads.o) into @watermill_firsts from (
                 -- Where nothing is aside, which one look tells, no key is looked up.
                 select ({}) as o from {KEYS}
                 where exists (select 1 from {messages} where acked = 0 and due_ms = {ASIDE_MS})
             ) heads;
             update {FIRSTS} straight_join {messages} m on m.`offset` = firsts.o
             set m.due_ms = 0 where m.due_ms = {ASIDE_MS}",
            json(&keys),
            head(&messages),
        );
        change_held(connection, queue, claims, &finish).await
    }

    async fn pass_holds(
        connection: &mut MySqlConnection,
        queue: &Queue,
        offsets: &[i64],
    ) -> sqlx::Result<()> {
        let pass = sqlx::query(AssertSqlSafe(format!(
            "update {OFFSETS} straight_join {} m on m.`offset` = held.o
             set m.holds_key = m.ordering_key where m.owner = ?",
            queue.tables.messages(),
        )));
        pass.bind(json(&offsets)).bind(&queue.owner).execute(connection).await.map(drop)
    }

    async fn mend_keys(connection: &mut MySqlConnection, queue: &Queue) -> sqlx::Result<bool> {
        let messages = queue.tables.messages();
        // A table that is changed cannot be asked in the same statement.
        let heads: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "with recursive ks (k, n) as (
                 select cast(floor(rand() * pow(2, 60)) as signed), 0
                 union all
                 select -1, 0
                 union all
                 select (select min(m.ordering_key) from {messages} m where m.acked = 0 and m.ordering_key > ks.k),
                        n + 1
                 from ks where k is not null and n < {LOOKED_AT}
             )
             select m.`offset` from (select ({}) as o from ks where k is not null) heads
             join {messages} m on m.`offset` = heads.o where m.due_ms = {ASIDE_MS}",
            head(&messages),
        )))
        .fetch_all(&mut *connection)
        .await?;
        if heads.is_empty() {
            return Ok(false);
        }
        let mend = sqlx::query(AssertSqlSafe(format!(
            "update {OFFSETS} straight_join {messages} m on m.`offset` = held.o
             set m.due_ms = 0 where m.due_ms = {ASIDE_MS}"
        )));
        Ok(mend.bind(json(&heads)).execute(connection).await?.rows_affected() > 0)
    }
}

/// What a transaction says in the end, which is one message to the server.
async fn counted(connection: &mut MySqlConnection, statements: String) -> sqlx::Result<u64> {
    match sqlx::raw_sql(AssertSqlSafe(statements)).fetch_one(&mut *connection).await {
        Ok(count) => Ok(u64::try_from(count.try_get::<i64, _>(0)?).unwrap_or(0)),
        Err(error) => {
            sqlx::raw_sql("rollback").execute(connection).await?;
            Err(error)
        }
    }
}
