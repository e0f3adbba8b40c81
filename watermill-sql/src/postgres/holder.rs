//! Naming who holds a reader back.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::time::Instant;

use super::look::Holding;
use crate::{log::Holder, position::Position, topic::Tables};

/// Writers are there for moments all the time; only one that stays is worth another statement.
const WORTH_ASKING: Duration = Duration::from_millis(500);

/// Who holds the lock of writers.
pub(super) async fn of_lock(
    connection: &mut PgConnection,
    holding: &Holding,
    since: Instant,
) -> sqlx::Result<Holder> {
    let asked = since.elapsed() >= WORTH_ASKING;
    let Some(pid) = holding.pid else {
        return match asked {
            true => of_prepared(connection).await,
            false => Ok(Holder { name: "a prepared transaction".to_owned(), age: None }),
        };
    };
    let age: Option<i64> = match asked {
        true => sqlx::query_scalar(
            "select (extract(epoch from clock_timestamp() - xact_start) * 1000)::bigint
                 from pg_stat_activity where pid = $1",
        )
        .bind(pid)
        .fetch_optional(connection)
        .await?
        .flatten(),
        false => None,
    };
    Ok(Holder { name: backend(pid), age: age.and_then(millis) })
}

/// Who keeps the snapshot from reaching a row that is there, if one is.
pub(super) async fn of_snapshot(
    connection: &mut PgConnection,
    tables: &Tables,
    after: Position,
) -> sqlx::Result<Option<Holder>> {
    let row = sqlx::query(AssertSqlSafe(format!(
        r#"select a.pid, (extract(epoch from clock_timestamp() - a.xact_start) * 1000)::bigint
           from (select pg_snapshot_xmin(pg_current_snapshot()) as xmin) s
           left join pg_stat_activity a on a.backend_xid = s.xmin::xid
           where exists (select 1 from {} where (transaction_id, "offset") > ($1::text::xid8, $2))
           limit 1"#,
        tables.messages()
    )))
    .bind(after.transaction.to_string())
    .bind(after.offset)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    match row.try_get::<Option<i32>, _>(0)? {
        Some(pid) => {
            Ok(Some(Holder { name: backend(pid), age: row.try_get::<Option<i64>, _>(1)?.and_then(millis) }))
        }
        None => of_prepared(connection).await.map(Some),
    }
}

async fn of_prepared(connection: &mut PgConnection) -> sqlx::Result<Holder> {
    let oldest: Option<(String, Option<i64>)> = sqlx::query_as(
        "select gid, (extract(epoch from clock_timestamp() - prepared) * 1000)::bigint
         from pg_prepared_xacts order by transaction::text::bigint limit 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(match oldest {
        Some((gid, age)) => {
            Holder { name: format!("the prepared transaction {gid:?}"), age: age.and_then(millis) }
        }
        None => Holder { name: "a transaction that cannot be seen".to_owned(), age: None },
    })
}

fn backend(pid: i32) -> String {
    format!("backend {pid}")
}

fn millis(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}
