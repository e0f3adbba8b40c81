//! Joins queues to the conformance suite, on each database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

use std::time::Duration;

use watermill_sql::{
    Layout, PayloadColumn, SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber,
    SqlQueueSubscriberConfig,
};
use watermill_testkit::{Connection, Lack, Limits};

/// An id has room for a UUID.
fn limits() -> Limits {
    Limits::default().ids(|id| id.chars().count() <= 36)
}

/// How soon a worker that has died is noticed, where a test waits for that.
const TIMEOUT: Duration = Duration::from_secs(1);

fn connect<D: SqlDatabase>(pool: sqlx::Pool<D>) -> Connection {
    connect_with(pool, SqlQueueSubscriberConfig::default())
}

fn connect_with_timeout<D: SqlDatabase>(pool: sqlx::Pool<D>) -> Option<(Connection, Duration)> {
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(TIMEOUT);
    Some((connect_with(pool, config), TIMEOUT))
}

fn connect_with<D: SqlDatabase>(pool: sqlx::Pool<D>, config: SqlQueueSubscriberConfig) -> Connection {
    let publishing = SqlPublisherConfig::default().layout(Layout::Queue).payload_column(PayloadColumn::Bytes);
    let working = config.payload_column(PayloadColumn::Bytes).dead_letter_topic("dead");
    let publisher = SqlPublisher::new(pool.clone(), publishing).expect("a valid config");
    Connection::new(publisher, SqlQueueSubscriber::new(pool, working).expect("a valid config"))
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use async_trait::async_trait;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
    use tempfile::TempDir;
    use watermill_testkit::Backend;

    use super::*;

    /// A database file of its own for each test.
    struct File {
        directory: TempDir,
    }

    impl File {
        async fn open(&self) -> sqlx::SqlitePool {
            let options = SqliteConnectOptions::new()
                .filename(self.directory.path().join("suite.db"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // The suite has no power cuts.
                .synchronous(SqliteSynchronous::Normal);
            SqlitePoolOptions::new().connect_with(options).await.expect("the file can be opened")
        }
    }

    #[async_trait]
    impl Backend for File {
        async fn connect(&self) -> Connection {
            connect(self.open().await)
        }

        async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
            connect_with_timeout(self.open().await)
        }

        fn lacks(&self) -> &[Lack] {
            &[Lack::History, Lack::Restart]
        }

        fn limits(&self) -> Limits {
            limits()
        }

        fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
            Some("dead".to_owned())
        }
    }

    watermill_testkit::conformance!(File { directory: tempfile::tempdir().expect("a folder") });
}

#[cfg(feature = "postgres")]
#[path = "postgres_database/mod.rs"]
mod postgres_database;

#[cfg(feature = "postgres")]
mod postgres {
    use async_trait::async_trait;
    use watermill_testkit::Backend;

    use super::{postgres_database::Database, *};

    #[async_trait]
    impl Backend for Database {
        async fn connect(&self) -> Connection {
            connect(self.pool().await)
        }

        async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
            connect_with_timeout(self.pool().await)
        }

        fn lacks(&self) -> &[Lack] {
            &[Lack::History, Lack::Restart]
        }

        fn limits(&self) -> Limits {
            limits()
        }

        fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
            Some("dead".to_owned())
        }
    }

    watermill_testkit::conformance!(Database::default());
}

#[cfg(feature = "mysql")]
#[path = "mysql_database/mod.rs"]
mod mysql_database;

#[cfg(feature = "mysql")]
mod mysql {
    use async_trait::async_trait;
    use watermill_testkit::Backend;

    use super::{mysql_database::Database, *};

    #[async_trait]
    impl Backend for Database {
        async fn connect(&self) -> Connection {
            connect(self.pool().await)
        }

        async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
            connect_with_timeout(self.pool().await)
        }

        fn lacks(&self) -> &[Lack] {
            &[Lack::History, Lack::Restart]
        }

        fn limits(&self) -> Limits {
            limits()
        }

        fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
            Some("dead".to_owned())
        }
    }

    watermill_testkit::conformance!(Database::default());
}
