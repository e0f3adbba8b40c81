//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Database, Pool};
use watermill_sql::SqlDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    /// Locks the topic `t` for everybody else, until [`UNLOCK`](Self::UNLOCK) on the same connection.
    const LOCK: &str;
    const UNLOCK: &str;
    /// Whether readers wait for that lock.
    const READERS_WAIT: bool;
    /// Has the topic `t` refuse messages with the id `refused`.
    const REFUSE: &str;
    /// Has every change of a row of the topic `t` fail that makes it somebody's.
    const REFUSE_CLAIMS: &str;
    /// The column, quoted.
    const OFFSET: &str;

    async fn pool(&self, connections: u32) -> Pool<Self::Database>;

    async fn execute(connection: &mut <Self::Database as Database>::Connection, statements: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;
}

/// A server that is reached over a network.
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[async_trait]
pub(crate) trait Remote: Server {
    /// Host and port.
    fn address(&self) -> String;

    /// The pool as one of whichever database a URL names.
    fn of_a_url(pool: Pool<Self::Database>) -> watermill_sql::SqlPool;

    /// A pool of connections to another port of this machine.
    async fn pool_at(&self, port: u16, connections: u32) -> Pool<Self::Database>;
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

    const LOCK: &str = "begin immediate";
    const UNLOCK: &str = "commit";
    const READERS_WAIT: bool = false;
    const REFUSE: &str = "create trigger refuse before insert on watermill_t when new.uuid = 'refused'
        begin select raise(abort, 'refused'); end";
    const REFUSE_CLAIMS: &str = "create trigger refuse before update on watermill_t when old.owner is null
        begin select raise(abort, 'refused'); end";
    const OFFSET: &str = "\"offset\"";

    async fn pool(&self, connections: u32) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("test.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(connections)
            .connect_with(options)
            .await
            .unwrap()
    }

    async fn execute(connection: &mut <sqlx::Sqlite as Database>::Connection, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Sqlite>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Server for crate::postgres_database::Database {
    type Database = sqlx::Postgres;

    /// A reader touches the table only where an offset was drawn that it has not read.
    const LOCK: &str = "begin; lock table watermill_t in access exclusive mode;
        select nextval(pg_get_serial_sequence('watermill_t', 'offset'))";
    const UNLOCK: &str = "commit";
    const READERS_WAIT: bool = true;
    const REFUSE: &str = "alter table watermill_t add check (uuid <> 'refused')";
    const REFUSE_CLAIMS: &str = "create function refuse() returns trigger language plpgsql as
        'begin raise exception ''refused''; end';
        create trigger refuse before update on watermill_t for each row when (old.owner is null)
        execute function refuse()";
    const OFFSET: &str = "\"offset\"";

    async fn pool(&self, connections: u32) -> Pool<sqlx::Postgres> {
        self.pool_at(self.options.get_port(), connections).await
    }

    async fn execute(connection: &mut <sqlx::Postgres as Database>::Connection, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::Postgres>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Remote for crate::postgres_database::Database {
    fn address(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    fn of_a_url(pool: Pool<sqlx::Postgres>) -> watermill_sql::SqlPool {
        watermill_sql::SqlPool::Postgres(pool)
    }

    async fn pool_at(&self, port: u16, connections: u32) -> Pool<sqlx::Postgres> {
        let options = self.options.clone().port(port);
        sqlx::postgres::PgPoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Server for crate::mysql_database::Database {
    type Database = sqlx::MySql;

    const LOCK: &str = "lock tables watermill_t write";
    const UNLOCK: &str = "unlock tables";
    const READERS_WAIT: bool = true;
    const REFUSE: &str = "create trigger refuse before insert on watermill_t for each row
        if new.uuid = 'refused' then signal sqlstate '45000'; end if";
    const REFUSE_CLAIMS: &str = "create trigger refuse before update on watermill_t for each row
        if old.owner is null then signal sqlstate '45000'; end if";
    const OFFSET: &str = "`offset`";

    async fn pool(&self, connections: u32) -> Pool<sqlx::MySql> {
        self.pool_at(self.options.get_port(), connections).await
    }

    async fn execute(connection: &mut <sqlx::MySql as Database>::Connection, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap();
    }

    async fn number(pool: &Pool<sqlx::MySql>, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Remote for crate::mysql_database::Database {
    fn address(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    fn of_a_url(pool: Pool<sqlx::MySql>) -> watermill_sql::SqlPool {
        watermill_sql::SqlPool::MySql(pool)
    }

    async fn pool_at(&self, port: u16, connections: u32) -> Pool<sqlx::MySql> {
        let options = self.options.clone().port(port);
        sqlx::mysql::MySqlPoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
    }
}
