//! How many statements publishing and reading take. In a binary of its own, because it counts what
//! sqlx says that it sends, in the whole process.

#![cfg(feature = "sqlite")]

use std::{
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tracing::{Event, Metadata, Subscriber as Log, span};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};

static STATEMENTS: AtomicUsize = AtomicUsize::new(0);

/// Counts the events in which sqlx logs a statement.
struct Counter;

impl Log for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, _: &Event<'_>) {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Counts for one test at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static COUNTING: Once = Once::new();
    static ALONE: Mutex<()> = Mutex::const_new(());
    COUNTING.call_once(|| tracing::subscriber::set_global_default(Counter).unwrap());
    ALONE.lock().await
}

async fn pool(folder: &tempfile::TempDir) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(folder.path().join("test.db")).create_if_missing(true);
    SqlitePoolOptions::new().connect_with(options).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_written_and_read_and_acked_with_a_statement_each() {
    const MESSAGES: usize = 10_000;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&folder).await;

    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.initialize("t").await.unwrap();
    STATEMENTS.store(0, Ordering::Relaxed);
    for _ in 0..MESSAGES / 100 {
        publisher.publish("t", (0..100).map(|n| Message::new(n.to_string())).collect()).await.unwrap();
    }
    // A statement is logged a moment after its result: the table's creation may be among them.
    let statements = STATEMENTS.load(Ordering::Relaxed);
    assert!((MESSAGES / 100 - 1..MESSAGES / 100 + 5).contains(&statements), "{statements} statements");

    // Long intervals, so that a slow machine counts the same: batches, and nothing by the clock.
    let hour = Duration::from_secs(3600);
    let config =
        SqlSubscriberConfig::default().batch_size(100).watch(false).lease(hour).ack_interval(hour / 2);
    let mut subscription = SqlSubscriber::new(pool, config).unwrap().subscribe("t").await.unwrap();
    STATEMENTS.store(0, Ordering::Relaxed);
    for _ in 0..MESSAGES {
        subscription.next().await.unwrap().unwrap().ack();
    }
    subscription.close().await.unwrap();
    let statements = STATEMENTS.load(Ordering::Relaxed);
    // Fetches grow while the handler outruns them, and never beyond what may be read ahead, or the count is broken.
    assert!((MESSAGES / 500..MESSAGES / 40).contains(&statements), "{statements} statements");
}

#[tokio::test]
async fn a_reader_that_finds_nothing_polls_ever_more_rarely() {
    const POLLS: u32 = 20;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&folder).await;
    let hour = Duration::from_secs(3600);
    let config = SqlSubscriberConfig::default()
        .lease(hour)
        .watch(false)
        .poll_interval_min(Duration::from_millis(1))
        .poll_interval_max(hour);
    let subscriber = SqlSubscriber::new(pool, config).unwrap();
    let _subscription = subscriber.subscribe("t").await.unwrap();
    let (begun, before) = (Instant::now(), STATEMENTS.load(Ordering::Relaxed));
    while STATEMENTS.load(Ordering::Relaxed) < before + POLLS as usize {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    // Up to six of the statements belong to its beginning, and each pause is half of the time that has passed. A slow
    // machine makes this no shorter.
    let least = Duration::from_millis(1).mul_f64(1.5_f64.powi(POLLS as i32 - 8));
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}
