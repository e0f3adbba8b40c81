//! Sessions and transactions.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool, Postgres};

use super::pooler;
use crate::{connection::ConnectionDialect, error::Failure};

#[async_trait]
impl ConnectionDialect for Postgres {
    const FORGETS_BEGIN: bool = true;

    const SEES_CONNECTIONS: bool = true;

    async fn check_pool(pool: &PgPool) -> Result<Result<(), String>, Failure> {
        pooler::check(pool).await
    }

    /// The number of its process, and when that began, because numbers come again.
    async fn name_of(connection: &mut PgConnection) -> sqlx::Result<String> {
        let name = "select pid || ' ' || extract(epoch from backend_start)::numeric(20, 6)
                    from pg_stat_activity where pid = pg_backend_pid()";
        sqlx::Row::try_get(&sqlx::raw_sql(name).fetch_one(connection).await?, 0)
    }

    /// One message to the server. What is set ends with the transaction.
    fn begin(silence: Duration) -> Option<String> {
        let silence_ms = silence.as_millis().clamp(1, i32::MAX as u128);
        Some(format!(
            "begin isolation level read committed; set local idle_in_transaction_session_timeout = {silence_ms}"
        ))
    }

    /// Without a transaction, a statement that is sent by itself begins one at the very time of its own.
    async fn is_in_transaction(connection: &mut PgConnection) -> sqlx::Result<bool> {
        let asked = sqlx::raw_sql("select now() <> statement_timestamp()").fetch_one(connection).await;
        match asked {
            Ok(row) => sqlx::Row::try_get(&row, 0),
            // in_failed_sql_transaction.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25P02") => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn run_text(connection: &mut PgConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(drop)
    }
}
