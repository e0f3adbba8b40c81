//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool};
use watermill_sql::{SqlDatabase, SqlSubscriberConfig};

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// Empties the log `t` so that its offsets begin with 1 again.
    const BEGIN_ANEW: &str;
    /// Whether transactions may commit in another order than they draw their offsets.
    const MANY_WRITERS: bool;
    /// Whether it can be seen that the connection of who owns a lease is gone.
    const SEES_CONNECTIONS: bool;

    /// Has the table `{dead}` refuse texts with a NUL in its metadata, and in its payload where that is text.
    const HOLDS_LESS: &str;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    async fn execute_in(transaction: &mut sqlx::Transaction<'_, Self::Database>, statement: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;

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

    const BEGIN_ANEW: &str =
        "delete from watermill_t; delete from sqlite_sequence where name = 'watermill_t'";
    const MANY_WRITERS: bool = false;
    const SEES_CONNECTIONS: bool = false;
    /// Too large is what it can be told to be.
    const HOLDS_LESS: &str = "create trigger {dead}_less before insert on {dead}
        when instr(new.metadata, 'u0000') begin select zeroblob(2000000000); end";

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

    async fn execute_in(transaction: &mut sqlx::Transaction<'_, sqlx::Sqlite>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut **transaction).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Sqlite>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Server for crate::postgres_database::Database {
    type Database = sqlx::Postgres;

    const BEGIN_ANEW: &str = "truncate watermill_t restart identity";
    const MANY_WRITERS: bool = true;
    const SEES_CONNECTIONS: bool = true;
    const HOLDS_LESS: &str = "alter table {dead} alter metadata type jsonb using metadata::jsonb, alter payload type jsonb using payload::jsonb";

    async fn connect(&self) -> Pool<sqlx::Postgres> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::Postgres>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn execute_in(transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut **transaction).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Postgres>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
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

    const BEGIN_ANEW: &str = "truncate table watermill_t";
    const MANY_WRITERS: bool = true;
    const SEES_CONNECTIONS: bool = true;
    const HOLDS_LESS: &str = "alter table {dead} add check (metadata not like '%u0000%' and payload is null)";

    async fn connect(&self) -> Pool<sqlx::MySql> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::MySql>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn execute_in(transaction: &mut sqlx::Transaction<'_, sqlx::MySql>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut **transaction).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::MySql>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}
