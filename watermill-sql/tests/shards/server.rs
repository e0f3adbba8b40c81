//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// The payload as text, and the column of offsets.
    const PAYLOAD: &str;
    const OFFSET: &str;
    /// The columns of a group's position, and what they are before the first row.
    const POSITION: (&str, &str);

    async fn connect(&self) -> Pool<Self::Database>;

    /// The payloads of a topic's table, in order; none where there is no table.
    async fn payloads(pool: &Pool<Self::Database>, topic: &str) -> Vec<String>;

    /// Makes the position of the group anew.
    async fn make_group(pool: &Pool<Self::Database>, topic: &str);
}

macro_rules! server {
    ($server:ty, $database:ty, $payload:literal, $offset:literal, $position:expr) => {
        #[async_trait]
        impl Server for $server {
            type Database = $database;

            const PAYLOAD: &str = $payload;
            const OFFSET: &str = $offset;
            const POSITION: (&str, &str) = $position;

            async fn connect(&self) -> Pool<$database> {
                self.pool().await
            }

            async fn payloads(pool: &Pool<$database>, topic: &str) -> Vec<String> {
                let query =
                    format!("select {} from watermill_{topic} order by {}", Self::PAYLOAD, Self::OFFSET);
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap_or_default()
            }

            async fn make_group(pool: &Pool<$database>, topic: &str) {
                let (columns, values) = Self::POSITION;
                let make = format!("insert into watermill_offsets_{topic} ({columns}) values ({values})");
                sqlx::query(AssertSqlSafe(make)).execute(pool).await.unwrap();
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
server!(
    File,
    sqlx::Sqlite,
    "cast(payload as text)",
    "\"offset\"",
    ("consumer_group, offset_acked, locked_until", "'relay', 0, 0")
);
#[cfg(feature = "postgres")]
server!(
    crate::postgres_database::Database,
    sqlx::Postgres,
    "payload::text",
    "\"offset\"",
    ("consumer_group, offset_acked, last_processed_transaction_id", "'relay', 0, '0'")
);
#[cfg(feature = "mysql")]
server!(
    crate::mysql_database::Database,
    sqlx::MySql,
    "cast(payload as char)",
    "`offset`",
    ("consumer_group, offset_acked, offset_consumed", "'relay', 0, 0")
);
