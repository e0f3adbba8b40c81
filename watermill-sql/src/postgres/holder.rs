//! Naming who holds a reader back.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use tokio::time::Instant;

use super::look::{Holding, Look};
use crate::{log::Holder, position::Position, topic::Tables};

/// Writers are there for moments all the time; only one that stays is worth another statement.
const WORTH_ASKING: Duration = Duration::from_millis(500);

/// Since when the oldest open transaction of the cluster is the same.
#[derive(Debug, Default)]
pub struct Waited(Option<(String, Instant)>);

/// Who holds the lock of writers since a look: the oldest of those who are left.
pub(super) async fn of_lock(connection: &mut PgConnection, look: &Look) -> sqlx::Result<Holder> {
    let since = look.at;
    if since.elapsed() < WORTH_ASKING {
        let pid = look.holders.iter().find_map(|holding| holding.pid);
        let who = pid.map_or_else(|| "a prepared transaction".to_owned(), backend);
        return Ok(Holder { name: who, id: pid.map(i64::from), age: None, since });
    }
    let pids: Vec<i32> = look.holders.iter().filter_map(|holding| holding.pid).collect();
    let prepared: Vec<&str> = look.holders.iter().filter(|holding| holding.pid.is_none()).map(name).collect();
    let oldest = sqlx::query(
        "select pid, gid, (extract(epoch from clock_timestamp() - begun) * 1000)::bigint
         from (
             select pid, null as gid, xact_start as begun from pg_stat_activity where pid = any($1)
             union all
             select null, p.gid, p.prepared from pg_prepared_xacts p
             join pg_locks l on l.locktype = 'transactionid' and l.transactionid = p.transaction
             where l.virtualtransaction = any($2)
         ) holder order by begun limit 1",
    )
    .bind(pids)
    .bind(prepared)
    .fetch_optional(connection)
    .await?;
    match oldest {
        Some(oldest) => named(&oldest, since),
        // It has ended meanwhile.
        None => Ok(Holder { name: "a transaction that is ending".to_owned(), id: None, age: None, since }),
    }
}

/// Whether anybody writes to the topic, whose rows cannot be seen yet.
pub(super) async fn has_writers(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from pg_locks l
                        where l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.granted
                          and l.relation = to_regclass($1)
                          and l.database = (select oid from pg_database where datname = current_database()))",
    )
    .bind(tables.messages())
    .fetch_one(connection)
    .await
}

/// Who keeps the snapshot from reaching a row that is there, if one is.
pub(super) async fn of_snapshot(
    connection: &mut PgConnection,
    tables: &Tables,
    after: Position,
    waited: &mut Waited,
) -> sqlx::Result<Option<Holder>> {
    let row = sqlx::query(AssertSqlSafe(format!(
        r#"select a.pid, p.gid, (extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000)::bigint,
                  s.xmin::text
           from (select pg_snapshot_xmin(pg_current_snapshot()) as xmin) s
           left join pg_stat_activity a on a.backend_xid = s.xmin::xid
           left join pg_prepared_xacts p on p.transaction = s.xmin::xid
           where exists (select 1 from {} where (transaction_id, "offset") > ($1::text::xid8, $2))
           limit 1"#,
        tables.messages()
    )))
    .bind(after.transaction.to_string())
    .bind(after.offset)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        waited.0 = None;
        return Ok(None);
    };
    let xmin: String = row.try_get(3)?;
    let since = match &waited.0 {
        Some((oldest, since)) if *oldest == xmin => *since,
        _ => Instant::now(),
    };
    waited.0 = Some((xmin, since));
    named(&row, since).map(Some)
}

/// From the process id, the name of a prepared transaction, and the age in milliseconds.
fn named(row: &PgRow, since: Instant) -> sqlx::Result<Holder> {
    let (pid, gid): (Option<i32>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let name = match (pid, gid) {
        (Some(pid), _) => backend(pid),
        (None, Some(gid)) => format!("the prepared transaction {gid:?}"),
        (None, None) => "a transaction that cannot be seen".to_owned(),
    };
    let age: Option<i64> = row.try_get(2)?;
    let age = age.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    Ok(Holder { name, id: pid.map(i64::from), age, since })
}

fn name(holding: &Holding) -> &str {
    &holding.virtual_transaction
}

fn backend(pid: i32) -> String {
    format!("backend {pid}")
}
