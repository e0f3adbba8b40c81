//! Joins the pair of `DelayPublisher` and `DelayRelay` to the conformance suite: whoever publishes to a backend that cannot
//! wait, beside a queue that can, sees one that can.

#![cfg(feature = "sqlite")]

use async_trait::async_trait;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use watermill_core::{
    Router,
    components::DelayRelay,
    delay::DelayPublisher,
    memory::{History, MemoryBroker, MemoryConfig},
    router::Phase,
};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack};

/// Where messages wait.
const QUEUE: &str = "delayed";

/// Messages that a group holds: the large tests of the suite publish 10,000 before anybody reads.
const CAPACITY: usize = 12_000;

struct Delayed {
    broker: MemoryBroker,
    queue: SqlitePool,
    relay: JoinHandle<()>,
    _directory: TempDir,
}

impl Delayed {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("queue.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The suite has no power cuts.
            .synchronous(SqliteSynchronous::Normal);
        let queue = SqlitePool::connect_with(options).await.expect("the file can be opened");
        let config = MemoryConfig::default().capacity(CAPACITY).history(History::All);
        let broker = MemoryBroker::with_config(config).expect("the config is valid");
        let due = SqlQueueSubscriber::new(queue.clone(), SqlQueueSubscriberConfig::default());
        let relay = DelayRelay::new(due.expect("the config is valid"), QUEUE, broker.publisher());
        let router = Router::new().merge(relay.handlers());
        let control = router.control();
        let relay = tokio::spawn(async move {
            let ended = router.run_until(std::future::pending::<()>()).await;
            panic!("the relay ended: {ended:?}");
        });
        control.reached(Phase::Running).await;
        Self { broker, queue, relay, _directory: directory }
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

#[async_trait]
impl Backend for Delayed {
    async fn connect(&self) -> Connection {
        let config = SqlPublisherConfig::default().layout(Layout::Queue);
        let queue = SqlPublisher::new(self.queue.clone(), config).expect("the config is valid");
        let publisher = DelayPublisher::new(self.broker.publisher(), queue, QUEUE);
        Connection::new(publisher, self.broker.subscriber())
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::Restart]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

watermill_testkit::conformance!(Delayed::start().await);
