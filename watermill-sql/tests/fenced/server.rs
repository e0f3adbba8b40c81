//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Transaction};

use crate::databases::TestDatabase;

#[async_trait]
pub(crate) trait Server: TestDatabase {
    /// The payload as text, and the column of offsets.
    const PAYLOAD: &str;
    const OFFSET: &str;
    /// Has the topic `t` refuse messages of more than ten bytes.
    const REFUSE: &str;

    /// The names of all tables.
    const TABLES: &str;

    async fn texts(pool: &Pool<Self::Database>, query: &str) -> Vec<String>;
}

/// A transaction in which this was executed.
pub(crate) async fn begin<S: Server>(
    pool: &Pool<S::Database>,
    statement: &str,
) -> Transaction<'static, S::Database> {
    let mut transaction = pool.begin().await.unwrap();
    S::execute_in(&mut transaction, statement).await;
    transaction
}

macro_rules! server {
    ($server:ty, $database:ty, { $($texts:item)* }) => {
        #[async_trait]
        impl Server for $server {
            $($texts)*

            async fn texts(pool: &Pool<$database>, query: &str) -> Vec<String> {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(pool).await.unwrap()
            }
        }
    };
}

#[cfg(feature = "sqlite")]
server!(crate::databases::File, sqlx::Sqlite, {
    const PAYLOAD: &str = "cast(payload as text)";
    const OFFSET: &str = "\"offset\"";
    const REFUSE: &str = "create trigger refuse before insert on watermill_t when length(new.payload) > 10
        begin select raise(abort, 'refused'); end";
    const TABLES: &str = "select name from sqlite_master where type = 'table'";
});

#[cfg(feature = "postgres")]
server!(crate::databases::postgres_database::Database, sqlx::Postgres, {
    const PAYLOAD: &str = "payload::text";
    const OFFSET: &str = "\"offset\"";
    const REFUSE: &str = "alter table watermill_t add check (length(payload::text) <= 10)";
    const TABLES: &str = "select tablename::text from pg_tables where schemaname = 'public'";
});

#[cfg(feature = "mysql")]
server!(crate::databases::mysql_database::Database, sqlx::MySql, {
    const PAYLOAD: &str = "cast(payload as char)";
    const OFFSET: &str = "`offset`";
    const REFUSE: &str = "alter table watermill_t add check (length(payload) <= 10)";
    const TABLES: &str = "select cast(table_name as char) from information_schema.tables
        where table_schema = database()";
});
