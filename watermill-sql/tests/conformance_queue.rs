//! Joins queues to the conformance suite, without order and in order by key, on each database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[cfg(feature = "mysql")]
#[path = "mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;
use watermill_sql::{
    Layout, PayloadColumn, SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber,
    SqlQueueSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Limits};

/// How soon a worker that has died is noticed, where a test waits for that.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A database of its own for each test.
#[async_trait]
trait Server: Send + Sync + 'static {
    type Database: SqlDatabase;

    async fn pool(&self) -> Pool<Self::Database>;
}

/// Queues on a server.
struct Queues<S> {
    server: S,
    ordered_by_key: bool,
}

impl<S: Server> Queues<S> {
    async fn connect_with(&self, config: SqlQueueSubscriberConfig) -> Connection {
        let publishing =
            SqlPublisherConfig::default().layout(Layout::Queue).payload_column(PayloadColumn::Bytes);
        let working = config
            .ordered_by_key(self.ordered_by_key)
            .payload_column(PayloadColumn::Bytes)
            .dead_letter_topic("dead");
        let pool = self.server.pool().await;
        let publisher = SqlPublisher::new(pool.clone(), publishing).expect("a valid config");
        // The topic of the dead letters is a queue of its own, which a test may work on as on any other.
        Connection::new(publisher, SqlQueueSubscriber::new(pool, working).expect("a valid config"))
    }
}

#[async_trait]
impl<S: Server> Backend for Queues<S> {
    async fn connect(&self) -> Connection {
        self.connect_with(SqlQueueSubscriberConfig::default()).await
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        let config = SqlQueueSubscriberConfig::default().visibility_timeout(TIMEOUT);
        Some((self.connect_with(config).await, TIMEOUT))
    }

    fn lacks(&self) -> &[Lack] {
        match self.ordered_by_key {
            // What is nacked holds its key, whatever the window.
            true => &[Lack::History, Lack::Restart, Lack::UnorderedWindow],
            false => &[Lack::History, Lack::Restart],
        }
    }

    /// An id has room for a UUID.
    fn limits(&self) -> Limits {
        Limits::default().ids(|id| id.chars().count() <= 36)
    }

    /// Each of fifty workers looks at every commit, which takes minutes in a build without optimisation.
    fn scale(&self) -> usize {
        5
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some("dead".to_owned())
    }
}

macro_rules! queues {
    ($server:expr) => {
        mod unordered {
            use super::*;

            watermill_testkit::conformance!(Queues { server: $server, ordered_by_key: false });
        }

        mod by_key {
            use super::*;

            watermill_testkit::conformance!(Queues { server: $server, ordered_by_key: true });
        }
    };
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
    use tempfile::TempDir;

    use super::*;

    struct File {
        directory: TempDir,
    }

    #[async_trait]
    impl Server for File {
        type Database = sqlx::Sqlite;

        async fn pool(&self) -> sqlx::SqlitePool {
            let options = SqliteConnectOptions::new()
                .filename(self.directory.path().join("suite.db"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // The suite has no power cuts.
                .synchronous(SqliteSynchronous::Normal);
            SqlitePoolOptions::new().connect_with(options).await.expect("the file can be opened")
        }
    }

    queues!(File { directory: tempfile::tempdir().expect("a folder") });
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::{postgres_database::Database, *};

    #[async_trait]
    impl Server for Database {
        type Database = sqlx::Postgres;

        async fn pool(&self) -> sqlx::PgPool {
            Self::pool(self).await
        }
    }

    queues!(Database::default());
}

#[cfg(feature = "mysql")]
mod mysql {
    use super::{mysql_database::Database, *};

    #[async_trait]
    impl Server for Database {
        type Database = sqlx::MySql;

        async fn pool(&self) -> sqlx::MySqlPool {
            Self::pool(self).await
        }
    }

    queues!(Database::default());
}
