//! Which statements run now, as far as that is sure to be all of them. What cannot be seen is no proof that
//! nothing runs.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::gaps::Statement;
use crate::topic::Tables;

/// What one row of an answer is about.
const OTHER: i64 = 0;
const OURS: i64 = 1;
/// A thread that the server does not tell about.
const UNSEEN: i64 = 2;

/// MariaDB's list of processes. Whatever a connection does that is not idle may draw offsets: a bulk of rows
/// has a command of its own, and an event of the scheduler is one that connects. What never ends is no
/// statement: the scheduler itself, and replication in both directions. `None` where others cannot be seen.
pub(super) async fn of_processes(
    connection: &mut MySqlConnection,
) -> sqlx::Result<Option<BTreeSet<Statement>>> {
    let rows = sqlx::query_as(AssertSqlSafe(processes(""))).fetch_all(connection).await?;
    Ok(others(rows))
}

/// Those of them whose connections have the table open for more than to read it, as its list of metadata locks tells. A
/// statement opens the tables that it writes to, by triggers and functions as well, before it draws anything, and its
/// transaction lets go of them after its end. So what else runs on the server, for however long, is nobody's concern.
pub(super) async fn of_writers(
    connection: &mut MySqlConnection,
    tables: &Tables,
) -> sqlx::Result<Option<BTreeSet<Statement>>> {
    let have_it_open = "and (id = connection_id() or id in (
             select thread_id from information_schema.metadata_lock_info
             where table_schema = coalesce(?, database()) and table_name = ?
               and lock_mode not in ('MDL_SHARED', 'MDL_SHARED_HIGH_PRIO', 'MDL_SHARED_READ')
         ))";
    let rows = sqlx::query_as(AssertSqlSafe(processes(have_it_open)))
        .bind(tables.messages_schema())
        .bind(tables.messages_name())
        .fetch_all(connection)
        .await?;
    Ok(others(rows))
}

fn processes(which: &str) -> String {
    format!(
        "select cast(id as signed), cast(query_id as signed), cast(id = connection_id() as signed)
         from information_schema.processlist
         where command not in ('Sleep', 'Daemon', 'Binlog Dump') and command not like 'Slave%'
           and not (command = 'Connect' and user in ('system user', 'unauthenticated user')) {which}
         union all
         select 0, 0, 2 from (select 1) one where not exists (
             select 1 from information_schema.user_privileges
             where privilege_type = 'PROCESS'
               and grantee = concat('''', replace(current_user(), '@', '''@'''), '''')
         )"
    )
}

/// MySQL's performance schema. `None` where it is off or in part: it does not see our own statement, or has a
/// connection of which it tells nothing.
pub(super) async fn of_events(connection: &mut MySqlConnection) -> sqlx::Result<Option<BTreeSet<Statement>>> {
    let rows = sqlx::query_as(
        "select cast(t.processlist_id as signed), cast(e.event_id as signed),
                cast(t.processlist_id = connection_id() as signed)
         from performance_schema.events_statements_current e
         join performance_schema.threads t on t.thread_id = e.thread_id
         where e.end_event_id is null and t.processlist_id is not null
         union all
         select 0, 0, 2 from performance_schema.threads where type = 'FOREGROUND' and instrumented = 'NO'",
    )
    .fetch_all(connection)
    .await?;
    Ok(others(rows))
}

/// Whether the performance schema sees every statement: none of their kinds is turned off, and no thread came
/// when there was no room for it.
pub(super) async fn are_numbered(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    let kinds_off: i64 = sqlx::query_scalar(
        "select count(*) from performance_schema.setup_instruments
         where name like 'statement/%' and enabled = 'NO'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let lost = sqlx::query("show global status like 'Performance\\_schema\\_thread\\_instances\\_lost'")
        .fetch_optional(&mut *connection)
        .await?;
    let lost: String = lost.map_or(Ok(String::new()), |row| row.try_get(1))?;
    Ok(kinds_off == 0 && lost == "0" && of_events(connection).await?.is_some())
}

/// The statements of others, if ours was seen and everybody's can be.
fn others(rows: Vec<(i64, i64, i64)>) -> Option<BTreeSet<Statement>> {
    let of = |kind| rows.iter().any(|(_, _, whose)| *whose == kind);
    if !of(OURS) || of(UNSEEN) {
        return None;
    }
    Some(rows.into_iter().filter(|row| row.2 == OTHER).map(|(id, number, _)| (id, number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_proves_nothing() {
        assert_eq!(others(vec![]), None);
        assert_eq!(others(vec![(7, 1, OTHER)]), None);
        assert_eq!(others(vec![(8, 1, OURS)]), Some(BTreeSet::new()));
    }

    /// MariaDB's is off unless it is turned on, and has MySQL's tables.
    #[tokio::test]
    async fn a_server_whose_performance_schema_is_off_sees_no_statement() {
        let options: sqlx::mysql::MySqlConnectOptions =
            watermill_testkit::Service::MYSQL.url().parse().unwrap();
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let is_on: i64 = sqlx::query_scalar("select cast(@@performance_schema as signed)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(are_numbered(&mut connection).await.unwrap(), is_on != 0);
        assert_eq!(of_events(&mut connection).await.unwrap().is_some(), is_on != 0);
        assert!(of_processes(&mut connection).await.unwrap().is_some());
    }

    #[test]
    fn a_connection_of_which_nothing_is_told_may_do_anything() {
        assert_eq!(others(vec![(8, 1, OURS), (7, 1, OTHER)]), Some(BTreeSet::from([(7, 1)])));
        assert_eq!(others(vec![(8, 1, OURS), (7, 1, OTHER), (0, 0, UNSEEN)]), None);
    }
}
