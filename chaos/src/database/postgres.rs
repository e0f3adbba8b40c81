//! PostgreSQL.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::{Database, LOOK, MINUTE, Row};

#[async_trait]
impl Database for Postgres {
    const BE_FOLLOWED: &'static [&'static str] =
        &["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"];
    const BE_ALONE: &'static [&'static str] =
        &["alter system reset synchronous_standby_names", "select pg_reload_conf()"];
    const FOLLOWERS: &'static str =
        "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')";
    const HAS_ALL: Option<&'static str> = None;
    const PROMOTE: &'static [&'static str] = &["select pg_promote(true, 60)"];
    const SERIAL: &'static str = "bigserial";
    const TEXT: &'static str = "text";
    const BEFORE_CLAIMING: &'static str = "select 1";

    async fn execute(connection: &mut PgConnection, statement: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?.rows_affected())
    }

    async fn number(connection: &mut PgConnection, query: String) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(connection).await
    }

    async fn rows(connection: &mut PgConnection, query: String) -> sqlx::Result<Vec<Row>> {
        let rows: Vec<(String, i64, i64, i64)> =
            sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await?;
        Ok(rows
            .into_iter()
            .map(|(id, key, version, refused)| Row { id, key, version, is_refused: refused != 0 })
            .collect())
    }

    async fn records(
        connection: &mut PgConnection,
        query: String,
    ) -> sqlx::Result<Vec<(i64, String, String)>> {
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await
    }

    async fn take_lock(connection: &mut PgConnection) -> sqlx::Result<bool> {
        sqlx::query_scalar("select pg_try_advisory_lock(7)").fetch_one(connection).await
    }

    async fn end_sessions(connection: &mut PgConnection, database: &str) -> sqlx::Result<usize> {
        let query = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' \
             and pid <> pg_backend_pid() and backend_type = 'client backend'"
        );
        Ok(sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?.len())
    }

    async fn wait_for_standby(primary: &mut PgConnection, standby: &mut PgConnection) -> sqlx::Result<bool> {
        let done: String = sqlx::query_scalar("select pg_current_wal_lsn()::text").fetch_one(primary).await?;
        for _ in 0..MINUTE {
            let has = "select pg_last_wal_replay_lsn() >= $1::pg_lsn";
            if sqlx::query_scalar(has).bind(&done).fetch_one(&mut *standby).await? {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    async fn payloads(connection: &mut PgConnection, topic: &str) -> sqlx::Result<Vec<String>> {
        let query = format!(r#"select payload::text from "watermill_{topic}""#);
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(connection).await
    }
}
