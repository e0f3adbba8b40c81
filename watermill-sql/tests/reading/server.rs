//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool};
use watermill_sql::{SqlDatabase, SqlSubscriberConfig};

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// Whether transactions may commit in another order than they draw their offsets.
    const MANY_WRITERS: bool;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    /// The ways in which a log is read.
    fn ways() -> Vec<SqlSubscriberConfig> {
        vec![SqlSubscriberConfig::default()]
    }
}

#[cfg(feature = "sqlite")]
pub(crate) struct File(tempfile::TempDir);

#[cfg(feature = "sqlite")]
impl Default for File {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl Server for File {
    type Database = sqlx::Sqlite;

    const MANY_WRITERS: bool = false;

    async fn connect(&self) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("log.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        Pool::connect_with(options).await.unwrap()
    }

    async fn execute(pool: &Pool<sqlx::Sqlite>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Server for crate::postgres_database::Database {
    type Database = sqlx::Postgres;

    const MANY_WRITERS: bool = true;

    async fn connect(&self) -> Pool<sqlx::Postgres> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::Postgres>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    fn ways() -> Vec<SqlSubscriberConfig> {
        use watermill_sql::CommitOrder;

        [CommitOrder::LockHolders, CommitOrder::Snapshot]
            .map(|order| SqlSubscriberConfig::default().commit_order(order))
            .to_vec()
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Server for crate::mysql_database::Database {
    type Database = sqlx::MySql;

    const MANY_WRITERS: bool = true;

    async fn connect(&self) -> Pool<sqlx::MySql> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::MySql>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }
}
