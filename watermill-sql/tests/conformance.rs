//! Joins SQLite, on a file, to the conformance suite.

#![cfg(feature = "sqlite")]

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tempfile::TempDir;
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, Limits};

/// An id has room for a UUID.
fn limits() -> Limits {
    Limits::default().ids(|id| id.chars().count() <= 36)
}

/// A database file of its own for each test.
struct SqliteFile {
    directory: TempDir,
}

#[async_trait]
impl Backend for SqliteFile {
    async fn connect(&self) -> Connection {
        self.connect_with(SqlSubscriberConfig::default()).await
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        let lease = Duration::from_secs(1);
        Some((self.connect_with(SqlSubscriberConfig::default().lease(lease)).await, lease))
    }

    /// There is no server that could be restarted; `sqlite::ownership` has a process that dies.
    fn lacks(&self) -> &[Lack] {
        &[Lack::Restart]
    }

    fn limits(&self) -> Limits {
        limits()
    }

    fn invalid_topics(&self) -> Vec<String> {
        ["", "a b", "a\"b", "ü", "a/b", &"t".repeat(300)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some("dead".to_owned())
    }
}

impl SqliteFile {
    async fn connect_with(&self, config: SqlSubscriberConfig) -> Connection {
        let options = SqliteConnectOptions::new()
            .filename(self.directory.path().join("suite.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The suite has no power cuts.
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("the file can be opened");
        let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default());
        let subscriber = SqlSubscriber::new(pool, config.dead_letter_topic("dead"));
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }
}

watermill_testkit::conformance!(SqliteFile { directory: tempfile::tempdir().expect("a folder") });
