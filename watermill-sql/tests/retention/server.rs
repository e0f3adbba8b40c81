//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// A time two days ago, as `created_at` has it.
    const TWO_DAYS_AGO: &str;
    /// Go's tables for the topic `go`, as its documentation has them, with three old rows, of which its
    /// group `behind` has read two and its group `abreast` all.
    const GO_LOG: &str;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    /// The same inside a transaction.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn execute_in(transaction: &mut sqlx::Transaction<'static, Self::Database>, statement: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;
}

/// Makes rows old.
pub(crate) async fn age<S: Server>(pool: &Pool<S::Database>, which: &str) {
    let when = S::TWO_DAYS_AGO;
    S::execute(pool, &format!("update watermill_t set created_at = {when} where {which}")).await;
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

    const TWO_DAYS_AGO: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 days')";
    const GO_LOG: &str = r#"
        create table watermill_go ("offset" integer primary key autoincrement, uuid text not null,
            created_at text not null, payload blob, metadata json not null);
        create table watermill_offsets_go (consumer_group text primary key, offset_acked integer not null,
            locked_until integer not null);
        insert into watermill_go (uuid, created_at, payload, metadata) values
            ('a', '2024-05-01T10:00:00Z', '1', '{}'), ('b', '2024-05-01T10:00:00Z', '2', '{}'),
            ('c', '2024-05-01T10:00:00Z', '3', '{}');
        insert into watermill_offsets_go values ('behind', 2, 0), ('abreast', 3, 0)"#;

    async fn connect(&self) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("retention.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        Pool::connect_with(options).await.unwrap()
    }

    async fn execute(pool: &Pool<sqlx::Sqlite>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn execute_in(transaction: &mut sqlx::Transaction<'static, sqlx::Sqlite>, statement: &str) {
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

    const TWO_DAYS_AGO: &str = "current_timestamp - interval '2 days'";
    const GO_LOG: &str = r#"
        create table watermill_go ("offset" bigserial, uuid varchar(36) not null,
            created_at timestamp not null default current_timestamp, payload json default null,
            metadata json default null, transaction_id xid8 not null, primary key (transaction_id, "offset"));
        create table watermill_offsets_go (consumer_group varchar(255) not null, offset_acked bigint,
            last_processed_transaction_id xid8 not null, primary key (consumer_group));
        insert into watermill_go (uuid, created_at, payload, metadata, transaction_id) values
            ('a', '2024-05-01', '1', '{}', '10'), ('c', '2024-05-01', '3', '{}', '12'),
            ('b', '2024-05-01', '2', '{}', '11');
        insert into watermill_offsets_go values ('behind', 3, '11'), ('abreast', 2, '12')"#;

    async fn connect(&self) -> Pool<sqlx::Postgres> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::Postgres>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn execute_in(transaction: &mut sqlx::Transaction<'static, sqlx::Postgres>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut **transaction).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Postgres>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Server for crate::mysql_database::Database {
    type Database = sqlx::MySql;

    const TWO_DAYS_AGO: &str = "current_timestamp - interval 2 day";
    const GO_LOG: &str = "
        create table watermill_go (`offset` bigint not null auto_increment primary key,
            uuid varchar(36) not null, created_at timestamp not null default current_timestamp,
            payload json default null, metadata json default null);
        create table watermill_offsets_go (consumer_group varchar(255) not null, offset_acked bigint,
            offset_consumed bigint not null, primary key (consumer_group));
        insert into watermill_go (uuid, created_at, payload, metadata) values
            ('a', '2024-05-01', '1', '{}'), ('b', '2024-05-01', '2', '{}'), ('c', '2024-05-01', '3', '{}');
        insert into watermill_offsets_go values ('behind', 2, 3), ('abreast', 3, 3)";

    async fn connect(&self) -> Pool<sqlx::MySql> {
        self.pool().await
    }

    async fn execute(pool: &Pool<sqlx::MySql>, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
    }

    async fn execute_in(transaction: &mut sqlx::Transaction<'static, sqlx::MySql>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut **transaction).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::MySql>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}
