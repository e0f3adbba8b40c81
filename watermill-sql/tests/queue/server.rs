//! [`Server`]: what the tests need to know of a database.

use async_trait::async_trait;
use sqlx::Pool;

use crate::databases::TestDatabase;

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: TestDatabase {
    /// Go's queue with the topic `go`, as its documentation has it, without due times.
    const GO_QUEUE: &str;
    /// Quotes an identifier.
    const QUOTE: char;
    /// Waits for a second, where others can write meanwhile.
    const SLEEP: Option<&str>;
    /// The time half a second from now, in milliseconds since the epoch.
    const SOON_MS: &str;

    /// How many rows of the queue `big` were read one after another so far, where the server counts that.
    async fn scanned(pool: &Pool<Self::Database>) -> Option<i64>;
}

/// A row of ours that plain SQL writes, with this metadata.
pub(crate) fn insert(topic: &str, payload: &str, metadata: &str) -> String {
    format!("insert into watermill_{topic} (uuid, payload, metadata) values ('u', '{payload}', '{metadata}')")
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl Server for crate::databases::File {
    /// Go has no queue on SQLite; one as Go would make it.
    const GO_QUEUE: &str = "create table watermill_go (
        \"offset\" integer primary key autoincrement, uuid text not null, payload blob, metadata json,
        acked boolean not null default false, created_at text not null default current_timestamp)";
    const QUOTE: char = '"';
    const SLEEP: Option<&str> = None;
    const SOON_MS: &str = "select cast(unixepoch('now', 'subsec') * 1000 as integer) + 500";

    async fn scanned(_pool: &Pool<sqlx::Sqlite>) -> Option<i64> {
        None
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Server for crate::databases::postgres_database::Database {
    const GO_QUEUE: &str = r#"create table watermill_go (
        "offset" serial primary key, uuid varchar(36) not null, payload json default null,
        metadata json default null, acked boolean not null default false,
        created_at timestamp with time zone not null default current_timestamp)"#;
    const QUOTE: char = '"';
    const SLEEP: Option<&str> = Some("select pg_sleep(1)");
    const SOON_MS: &str = "select (extract(epoch from clock_timestamp()) * 1000)::bigint + 500";

    async fn scanned(pool: &Pool<sqlx::Postgres>) -> Option<i64> {
        let read = "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
                    where relname = 'watermill_big'";
        Some(Self::number(pool, read).await)
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Server for crate::databases::mysql_database::Database {
    const GO_QUEUE: &str = "create table watermill_go (
        `offset` bigint not null auto_increment primary key, uuid varchar(36) not null,
        created_at timestamp not null default current_timestamp, payload json null, metadata json null,
        acked boolean not null default false)";
    const QUOTE: char = '`';
    const SLEEP: Option<&str> = Some("do sleep(1)");
    const SOON_MS: &str = "select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000 + 500";

    async fn scanned(_pool: &Pool<sqlx::MySql>) -> Option<i64> {
        None
    }
}
