//! Databases that go with the benchmark.

use sqlx::{
    ConnectOptions as _, MySql, Pool, Postgres, Sqlite,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::raw::Raw;

#[expect(dead_code, reason = "benchmarks have pools of their own")]
#[path = "../../tests/mysql_database/mod.rs"]
mod mysql;
#[expect(dead_code, reason = "benchmarks have pools of their own")]
#[path = "../../tests/postgres_database/mod.rs"]
mod postgres;

/// A database on another server than that of all. Blocks.
pub(crate) fn postgres_on(url: &str) -> postgres::Database {
    postgres::Database::on(url)
}

/// A database on another server than that of all. Blocks.
pub(crate) fn mysql_on(url: &str) -> mysql::Database {
    mysql::Database::on(url)
}

/// A database to measure on.
pub(crate) trait Bench: Raw {
    /// How figures name it.
    const LABEL: &str;

    /// Is dropped with this.
    type Database;

    /// Creates an empty database. Blocks.
    fn database() -> Self::Database;

    fn pool(database: &Self::Database, connections: u32) -> impl Future<Output = Pool<Self>>;

    /// Where another process finds it.
    fn url(database: &Self::Database) -> String;

    /// The server, and its settings that decide how fast a commit is.
    fn settings(pool: &Pool<Self>) -> impl Future<Output = String>;
}

impl Bench for Postgres {
    const LABEL: &str = "postgres";
    type Database = postgres::Database;

    fn database() -> postgres::Database {
        postgres::Database::default()
    }

    async fn pool(database: &postgres::Database, connections: u32) -> Pool<Self> {
        let options = PgPoolOptions::new().max_connections(connections).min_connections(connections);
        options.connect_with(database.options.clone()).await.expect("the server answers")
    }

    fn url(database: &postgres::Database) -> String {
        database.options.to_url_lossy().to_string()
    }

    async fn settings(pool: &Pool<Self>) -> String {
        let settings = sqlx::query_scalar(
            "select concat('PostgreSQL ', current_setting('server_version'), ', fsync ',
        current_setting('fsync'), ', synchronous_commit ', current_setting('synchronous_commit'))",
        );
        settings.fetch_one(pool).await.expect("the server answers")
    }
}

impl Bench for MySql {
    const LABEL: &str = "mysql";
    type Database = mysql::Database;

    fn database() -> mysql::Database {
        let url = watermill_testkit::Service::MYSQL.url();
        mysql::Database::on(&url)
    }

    async fn pool(database: &mysql::Database, connections: u32) -> Pool<Self> {
        let options = MySqlPoolOptions::new().max_connections(connections).min_connections(connections);
        options.connect_with(database.options.clone()).await.expect("the server answers")
    }

    fn url(database: &mysql::Database) -> String {
        database.options.to_url_lossy().to_string()
    }

    async fn settings(pool: &Pool<Self>) -> String {
        let settings = sqlx::query_scalar(
            "select concat('MySQL or MariaDB ', version(), ', innodb_flush_log_at_trx_commit ',
        @@innodb_flush_log_at_trx_commit, ', sync_binlog ', @@sync_binlog)",
        );
        settings.fetch_one(pool).await.expect("the server answers")
    }
}

impl Bench for Sqlite {
    const LABEL: &str = "sqlite";
    type Database = tempfile::TempDir;

    fn database() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    async fn pool(folder: &tempfile::TempDir, connections: u32) -> Pool<Self> {
        let pool = SqlitePoolOptions::new().max_connections(connections);
        pool.connect_with(file(folder)).await.expect("the folder can be written to")
    }

    fn url(folder: &tempfile::TempDir) -> String {
        file(folder).to_url_lossy().to_string()
    }

    async fn settings(pool: &Pool<Self>) -> String {
        let settings = sqlx::query_scalar(
            "select 'SQLite ' || sqlite_version() || ', journal_mode wal, synchronous normal'",
        );
        settings.fetch_one(pool).await.expect("the server answers")
    }
}

fn file(folder: &tempfile::TempDir) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(folder.path().join("bench.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
}
