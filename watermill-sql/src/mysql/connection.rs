//! Sessions and transactions.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{MySql, MySqlConnection, Row as _, mysql::MySqlDatabaseError};

use crate::connection::ConnectionDialect;

/// Fails without a transaction: a savepoint is gone then as soon as it is made.
pub(super) const IN_TRANSACTION: &str = "savepoint watermill_look; release savepoint watermill_look";

/// Of the next transaction.
pub(super) const READ_COMMITTED: &str = "set transaction isolation level read committed";

#[async_trait]
impl ConnectionDialect for MySql {
    const FORGETS_BEGIN: bool = true;

    const SEES_CONNECTIONS: bool = true;

    /// Its number, and the server and the account that it is of.
    async fn name_of(connection: &mut MySqlConnection) -> sqlx::Result<String> {
        let name = "select cast(concat_ws(' ', connection_id(), @@hostname, @@port, current_user()) as char)";
        sqlx::raw_sql(name).fetch_one(connection).await?.try_get(0)
    }

    /// One message to the server. The limit is of the session and has whole seconds.
    fn begin(silence: Duration) -> Option<String> {
        Some(format!("{}; start transaction", bound(silence)))
    }

    async fn end(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        Self::run_text(connection, "set session wait_timeout = @watermill_wait_timeout").await
    }

    async fn is_in_transaction(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
        // MariaDB reads what MySQL takes for a comment.
        let asked = sqlx::raw_sql("select /*M! cast(@@in_transaction as signed), */ 1")
            .fetch_one(&mut *connection)
            .await?;
        if asked.len() == 2 {
            return Ok(asked.try_get::<i64, _>(0)? != 0);
        }
        let made = sqlx::raw_sql(IN_TRANSACTION);
        match made.execute(connection).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if is_no_savepoint(&*error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn run_text(connection: &mut MySqlConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(drop)
    }
}

/// A setting of the session, until it is [ended](ConnectionDialect::end).
pub(super) fn bound(silence: Duration) -> String {
    let seconds = silence.as_millis().div_ceil(1_000).clamp(1, 31_536_000);
    format!("set @watermill_wait_timeout = @@session.wait_timeout, session wait_timeout = {seconds}")
}

pub(super) fn is_no_savepoint(error: &dyn sqlx::error::DatabaseError) -> bool {
    const SP_DOES_NOT_EXIST: u16 = 1305;
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| error.number() == SP_DOES_NOT_EXIST)
}
