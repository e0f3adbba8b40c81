//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Database, Pool};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// Whether several can write at once.
    const MANY_WRITERS: bool;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;

    /// In a transaction.
    async fn write(
        connection: &mut <Self::Database as Database>::Connection,
        statement: &str,
    ) -> sqlx::Result<()>;

    /// In a transaction.
    async fn read(
        connection: &mut <Self::Database as Database>::Connection,
        query: &str,
    ) -> sqlx::Result<i64>;

    async fn has_table(pool: &Pool<Self::Database>, table: &str) -> bool {
        let name = match <Self::Database as Database>::NAME {
            "SQLite" => format!("select count(*) from sqlite_master where name = '{table}'"),
            "PostgreSQL" => format!("select count(*) from pg_class where relname = '{table}'"),
            _ => format!(
                "select count(*) from information_schema.tables
                 where table_schema = database() and table_name = '{table}'"
            ),
        };
        Self::number(pool, &name).await > 0
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

macro_rules! server {
    ($server:ty, $database:ty, $many_writers:literal, |$this:ident| $connect:expr) => {
        #[async_trait]
        impl Server for $server {
            type Database = $database;

            const MANY_WRITERS: bool = $many_writers;

            async fn connect(&self) -> Pool<$database> {
                let $this = self;
                $connect
            }

            async fn execute(pool: &Pool<$database>, statements: &str) {
                sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
            }

            async fn number(pool: &Pool<$database>, query: &str) -> i64 {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
            }

            async fn write(
                connection: &mut <$database as Database>::Connection,
                statement: &str,
            ) -> sqlx::Result<()> {
                sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.map(drop)
            }

            async fn read(
                connection: &mut <$database as Database>::Connection,
                query: &str,
            ) -> sqlx::Result<i64> {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(connection).await
            }
        }
    };
}

#[cfg(feature = "sqlite")]
server!(File, sqlx::Sqlite, false, |file| {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(file.0.path().join("inbox.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    Pool::connect_with(options).await.unwrap()
});

#[cfg(feature = "postgres")]
server!(crate::postgres_database::Database, sqlx::Postgres, true, |server| server.pool().await);

#[cfg(feature = "mysql")]
server!(crate::mysql_database::Database, sqlx::MySql, true, |server| server.pool().await);
