//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// Go's queue with the topic `go`, as its documentation has it, without due times.
    const GO_QUEUE: &str;
    /// Quotes an identifier.
    const QUOTE: char;
    /// Waits for a second, where others can write meanwhile.
    const SLEEP: Option<&str>;
    /// The time half a second from now, in milliseconds since the epoch.
    const SOON_MS: &str;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;

    /// How many rows of the queue `big` were read one after another so far, where the server counts that.
    async fn scanned(pool: &Pool<Self::Database>) -> Option<i64>;
}

/// A row of ours that plain SQL writes, with this metadata.
pub(crate) fn insert(topic: &str, payload: &str, metadata: &str) -> String {
    format!("insert into watermill_{topic} (uuid, payload, metadata) values ('u', '{payload}', '{metadata}')")
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

    /// Go has no queue on SQLite; one as Go would make it.
    const GO_QUEUE: &str = "create table watermill_go (
        \"offset\" integer primary key autoincrement, uuid text not null, payload blob, metadata json,
        acked boolean not null default false, created_at text not null default current_timestamp)";
    const QUOTE: char = '"';
    const SLEEP: Option<&str> = None;
    const SOON_MS: &str = "select cast(unixepoch('now', 'subsec') * 1000 as integer) + 500";

    async fn connect(&self) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("queue.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        Pool::connect_with(options).await.unwrap()
    }

    async fn execute(pool: &Pool<sqlx::Sqlite>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Sqlite>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }

    async fn scanned(_pool: &Pool<sqlx::Sqlite>) -> Option<i64> {
        None
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Server for crate::postgres_database::Database {
    type Database = sqlx::Postgres;

    const GO_QUEUE: &str = r#"create table watermill_go (
        "offset" serial primary key, uuid varchar(36) not null, payload json default null,
        metadata json default null, acked boolean not null default false,
        created_at timestamp with time zone not null default current_timestamp)"#;
    const QUOTE: char = '"';
    const SLEEP: Option<&str> = Some("select pg_sleep(1)");
    const SOON_MS: &str = "select (extract(epoch from clock_timestamp()) * 1000)::bigint + 500";

    async fn connect(&self) -> Pool<sqlx::Postgres> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::Postgres>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Postgres>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }

    async fn scanned(pool: &Pool<sqlx::Postgres>) -> Option<i64> {
        let read = "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
                    where relname = 'watermill_big'";
        Some(Self::number(pool, read).await)
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Server for crate::mysql_database::Database {
    type Database = sqlx::MySql;

    const GO_QUEUE: &str = "create table watermill_go (
        `offset` bigint not null auto_increment primary key, uuid varchar(36) not null,
        created_at timestamp not null default current_timestamp, payload json null, metadata json null,
        acked boolean not null default false)";
    const QUOTE: char = '`';
    const SLEEP: Option<&str> = Some("do sleep(1)");
    const SOON_MS: &str = "select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000 + 500";

    async fn connect(&self) -> Pool<sqlx::MySql> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::MySql>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::MySql>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }

    async fn scanned(_pool: &Pool<sqlx::MySql>) -> Option<i64> {
        None
    }
}
