//! Sessions and transactions.

use async_trait::async_trait;
use sqlx::{Sqlite, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::connection::ConnectionDialect;

#[async_trait]
impl ConnectionDialect for Sqlite {
    /// sqlx has a thread for each connection, which rolls back what nobody waits for any more.
    const FORGETS_BEGIN: bool = false;

    /// It begins none where one is open. Begun so, one has no locks.
    async fn is_in_transaction(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
        const ERROR: &str = "1";
        match sqlx::raw_sql("begin deferred; rollback").execute(connection).await {
            Ok(_) => Ok(false),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(ERROR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn run_text(connection: &mut SqliteConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(drop)
    }

    fn is_shared(options: &SqliteConnectOptions) -> bool {
        // What sqlx makes of `sqlite::memory:`, whose connections lock one another's tables.
        const IN_MEMORY: &str = "file:sqlx-in-memory";
        let file = options.get_filename();
        file != ":memory:" && !file.to_string_lossy().starts_with(IN_MEMORY)
    }
}
