//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Transaction};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// The payload as text, and the column of offsets.
    const PAYLOAD: &str;
    const OFFSET: &str;
    /// Has the topic `t` refuse messages of more than ten bytes.
    const REFUSE: &str;

    /// The names of all tables.
    const TABLES: &str;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn begin(pool: &Pool<Self::Database>, statement: &str) -> Transaction<'static, Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statement: &str);

    async fn texts(pool: &Pool<Self::Database>, query: &str) -> Vec<String>;
}

macro_rules! server {
    ($server:ty, $database:ty, { $($texts:item)* }) => {
        #[async_trait]
        impl Server for $server {
            type Database = $database;

            $($texts)*

            async fn connect(&self) -> Pool<$database> {
                self.pool().await
            }

            async fn begin(pool: &Pool<$database>, statement: &str) -> Transaction<'static, $database> {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await.unwrap();
                transaction
            }

            async fn execute(pool: &Pool<$database>, statement: &str) {
                sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
            }

            async fn texts(pool: &Pool<$database>, query: &str) -> Vec<String> {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(pool).await.unwrap()
            }
        }
    };
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
impl File {
    async fn pool(&self) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("test.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .busy_timeout(std::time::Duration::from_secs(30));
        sqlx::sqlite::SqlitePoolOptions::new().max_connections(5).connect_with(options).await.unwrap()
    }
}

#[cfg(feature = "sqlite")]
server!(File, sqlx::Sqlite, {
    const PAYLOAD: &str = "cast(payload as text)";
    const OFFSET: &str = "\"offset\"";
    const REFUSE: &str = "create trigger refuse before insert on watermill_t when length(new.payload) > 10
        begin select raise(abort, 'refused'); end";
    const TABLES: &str = "select name from sqlite_master where type = 'table'";
});

#[cfg(feature = "postgres")]
server!(crate::postgres_database::Database, sqlx::Postgres, {
    const PAYLOAD: &str = "payload::text";
    const OFFSET: &str = "\"offset\"";
    const REFUSE: &str = "alter table watermill_t add check (length(payload::text) <= 10)";
    const TABLES: &str = "select tablename::text from pg_tables where schemaname = 'public'";
});

#[cfg(feature = "mysql")]
server!(crate::mysql_database::Database, sqlx::MySql, {
    const PAYLOAD: &str = "cast(payload as char)";
    const OFFSET: &str = "`offset`";
    const REFUSE: &str = "alter table watermill_t add check (length(payload) <= 10)";
    const TABLES: &str = "select cast(table_name as char) from information_schema.tables
        where table_schema = database()";
});
