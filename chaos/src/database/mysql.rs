//! MySQL and MariaDB.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::{Database, Row};

#[async_trait]
impl Database for MySql {
    const BE_FOLLOWED: &'static [&'static str] = &[
        "set global rpl_semi_sync_master_wait_point = 'AFTER_SYNC'",
        "set global rpl_semi_sync_master_timeout = 60000",
        "set global rpl_semi_sync_master_enabled = 1",
    ];
    const BE_ALONE: &'static [&'static str] = &["set global rpl_semi_sync_master_enabled = 0"];
    const FOLLOWERS: &'static str = "select cast(count(*) as signed) from information_schema.global_status \
         where variable_name = 'Rpl_semi_sync_master_status' and variable_value = 'ON' and exists ( \
             select 1 from information_schema.global_status \
             where variable_name = 'Rpl_semi_sync_master_clients' and variable_value > 0)";
    const HAS_ALL: Option<&'static str> = Some(
        "select cast(count(*) as signed) from information_schema.processlist \
         where command = 'Slave_SQL' and state like 'Slave has read all relay log%'",
    );
    const PROMOTE: &'static [&'static str] = &[
        "stop slave",
        "reset slave all",
        "set global sync_binlog = 1",
        "set global innodb_flush_log_at_trx_commit = 1",
    ];
    const SERIAL: &'static str = "bigint auto_increment";
    const TEXT: &'static str = "longtext";
    const BEFORE_CLAIMING: &'static str = "set session transaction isolation level read committed";

    async fn execute(connection: &mut MySqlConnection, statement: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?.rows_affected())
    }

    async fn number(connection: &mut MySqlConnection, query: String) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(connection).await
    }

    async fn rows(connection: &mut MySqlConnection, query: String) -> sqlx::Result<Vec<Row>> {
        let rows: Vec<(String, i64, i64, i64)> =
            sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await?;
        Ok(rows
            .into_iter()
            .map(|(id, key, version, refused)| Row { id, key, version, is_refused: refused != 0 })
            .collect())
    }

    async fn records(
        connection: &mut MySqlConnection,
        query: String,
    ) -> sqlx::Result<Vec<(i64, String, String)>> {
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await
    }

    async fn take_lock(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
        let taken: Option<i64> =
            sqlx::query_scalar("select cast(get_lock('relay', 0) as signed)").fetch_one(connection).await?;
        Ok(taken == Some(1))
    }

    async fn end_sessions(connection: &mut MySqlConnection, database: &str) -> sqlx::Result<usize> {
        let query = format!(
            "select cast(id as signed) from information_schema.processlist \
             where db = '{database}' and id <> connection_id()"
        );
        let sessions: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut *connection).await?;
        for session in &sessions {
            // It may have ended by itself.
            let _ = Self::execute(&mut *connection, format!("kill {session}")).await;
        }
        Ok(sessions.len())
    }

    async fn wait_for_standby(
        primary: &mut MySqlConnection,
        standby: &mut MySqlConnection,
    ) -> sqlx::Result<bool> {
        let query = "select convert(@@gtid_binlog_pos using utf8mb4)";
        let done: String = sqlx::query_scalar(query).fetch_one(primary).await?;
        let wait = format!("select cast(master_gtid_wait('{done}', 60) as signed)");
        Ok(Self::number(standby, wait).await? == Some(0))
    }

    async fn payloads(connection: &mut MySqlConnection, topic: &str) -> sqlx::Result<Vec<String>> {
        let query = format!("select convert(payload using utf8mb4) from `watermill_{topic}`");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(connection).await
    }
}
