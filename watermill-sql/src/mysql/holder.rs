//! Naming who holds a reader back.

use std::time::Duration;

use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::gaps::Statement;
use crate::log::Holder;

/// Writers are there for moments all the time; only one that stays is worth another statement.
const WORTH_ASKING: Duration = Duration::from_millis(500);

/// Who has a row locked. The server does not say of which table an open transaction has changed rows,
/// so the oldest that has changed any is named, as one of so many. Whoever alters a table has for moments a transaction without a
/// connection, as a prepared one has for long: those that have one are named before them.
pub(super) async fn of_rows(connection: &mut MySqlConnection, since: Instant) -> sqlx::Result<Holder> {
    let unknown = || Holder { name: "an open transaction".to_owned(), id: None, age: None, since };
    if since.elapsed() < WORTH_ASKING {
        return Ok(unknown());
    }
    let writers: sqlx::Result<Vec<(i64, i64)>> = sqlx::query_as(
        "select cast(trx_mysql_thread_id as signed), timestampdiff(second, trx_started, now())
         from information_schema.innodb_trx
         where trx_rows_modified > 0 and trx_mysql_thread_id <> connection_id()
         order by trx_mysql_thread_id = 0, trx_started",
    )
    .fetch_all(connection)
    .await;
    // The account may not be allowed to look; that is no reason to stop reading.
    let Ok(writers) = writers else { return Ok(unknown()) };
    let Some(&(id, seconds)) = writers.first() else { return Ok(unknown()) };
    // Prepared, its connection has ended.
    let id = Some(id).filter(|id| *id != 0);
    let who = id.map_or_else(
        || "a prepared transaction (xa recover names it)".to_owned(),
        |id| format!("connection {id}"),
    );
    let name = match writers.len() {
        1 => who,
        others => format!("{who}, or another of {others} that write"),
    };
    Ok(Holder { name, id, age: u64::try_from(seconds).ok().map(Duration::from_secs), since })
}

/// Who may have drawn an offset for a row that is not there yet.
pub(super) fn of_statement((connection, _): Statement, since: Instant) -> Holder {
    Holder { name: format!("a statement of connection {connection}"), id: Some(connection), age: None, since }
}
