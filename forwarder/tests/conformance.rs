//! Joins the pair of `ForwarderPublisher` and `Forwarder` to the conformance suite: whoever publishes
//! through an outbox and subscribes to the destination sees nothing of what is between them.

use async_trait::async_trait;
use tokio::task::JoinHandle;
use watermill_core::{Publisher, Subscriber};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder, ForwarderConfig, ForwarderPublisher};
use watermill_testkit::{Backend, Connection, Lack, Limits};

/// A relay that runs for as long as the test does.
struct Relay(JoinHandle<()>);

impl Relay {
    async fn start(
        outbox: impl Subscriber + 'static,
        destination: impl Publisher + 'static,
        config: ForwarderConfig,
    ) -> Self {
        outbox.initialize(DEFAULT_TOPIC).await.expect("the group begins");
        let forwarder = Forwarder::builder(outbox, destination).config(config).build();
        let running = forwarder.expect("the config is valid").run_until(std::future::pending());
        Self(tokio::spawn(async move {
            let ended = running.await;
            panic!("the relay ended: {ended:?}");
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

mod through_memory_into_memory {
    use watermill_core::memory::{History, MemoryBroker, MemoryConfig};

    use super::*;

    /// Messages that wait at the destination: the large tests publish 10,000 before anybody reads.
    const DESTINATION: usize = 12_000;
    /// Messages that wait in the outbox, those that the relay has in hand included.
    const OUTBOX: usize = 1_000;

    struct Memory {
        outbox: MemoryBroker,
        destination: MemoryBroker,
        _relay: Relay,
    }

    impl Memory {
        async fn start() -> Self {
            let broker = |capacity, history| {
                let config = MemoryConfig::default().capacity(capacity).history(history);
                MemoryBroker::with_config(config).expect("the config is valid")
            };
            let (outbox, destination) = (broker(OUTBOX, History::None), broker(DESTINATION, History::All));
            // One at a time, because a batch waits until there is room for all of it, and the suite
            // counts how many messages fit to the last one.
            let config = ForwarderConfig::default().batch_size(1).max_blocked(1);
            let source = outbox.subscriber().group("relay");
            let relay = Relay::start(source, destination.publisher(), config).await;
            Self { outbox, destination, _relay: relay }
        }
    }

    #[async_trait]
    impl Backend for Memory {
        async fn connect(&self) -> Connection {
            Connection::new(ForwarderPublisher::new(self.outbox.publisher()), self.destination.subscriber())
        }

        fn lacks(&self) -> &[Lack] {
            &[Lack::ConsumerTimeout, Lack::Restart]
        }

        fn capacity(&self) -> Option<usize> {
            Some(DESTINATION + OUTBOX)
        }
    }

    watermill_testkit::conformance!(Memory::start().await);
}

mod through_sqlite_into_sqlite {
    use std::time::Duration;

    use sqlx::{
        SqlitePool,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    };
    use tempfile::TempDir;
    use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};

    use super::*;

    struct Sqlite {
        directory: TempDir,
        _relay: Relay,
    }

    impl Sqlite {
        async fn start() -> Self {
            let directory = tempfile::tempdir().expect("a folder");
            let pool = open(&directory).await;
            let source = subscriber(&pool, SqlSubscriberConfig::default().group("relay"));
            let relay = Relay::start(source, publisher(&pool), ForwarderConfig::default()).await;
            Self { directory, _relay: relay }
        }

        async fn connect_with(&self, config: SqlSubscriberConfig) -> Connection {
            let pool = open(&self.directory).await;
            let publisher = ForwarderPublisher::new(publisher(&pool));
            Connection::new(publisher, subscriber(&pool, config.dead_letter_topic("dead")))
        }
    }

    #[async_trait]
    impl Backend for Sqlite {
        async fn connect(&self) -> Connection {
            self.connect_with(SqlSubscriberConfig::default()).await
        }

        async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
            let lease = Duration::from_secs(1);
            Some((self.connect_with(SqlSubscriberConfig::default().lease(lease)).await, lease))
        }

        fn lacks(&self) -> &[Lack] {
            &[Lack::EarlyRefusal, Lack::Restart]
        }

        fn limits(&self) -> Limits {
            Limits::default().ids(|id| id.chars().count() <= 36)
        }

        fn scale(&self) -> usize {
            10
        }

        fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
            Some("dead".to_owned())
        }
    }

    async fn open(directory: &TempDir) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("suite.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The suite has no power cuts.
            .synchronous(SqliteSynchronous::Normal);
        SqlitePool::connect_with(options).await.expect("the file can be opened")
    }

    fn publisher(pool: &SqlitePool) -> SqlPublisher<sqlx::Sqlite> {
        SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("a valid config")
    }

    fn subscriber(pool: &SqlitePool, config: SqlSubscriberConfig) -> SqlSubscriber<sqlx::Sqlite> {
        SqlSubscriber::new(pool.clone(), config).expect("a valid config")
    }

    watermill_testkit::conformance!(Sqlite::start().await);
}
