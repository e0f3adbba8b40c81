//! How much an idle process asks. In a binary of its own, because it counts what sqlx says that it sends, in the whole
//! process.

#![cfg(any(feature = "postgres", feature = "mysql"))]

#[cfg(feature = "mysql")]
mod mysql_database;
#[cfg(feature = "postgres")]
mod postgres_database;

use std::{
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::Pool;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tracing::{Event, Metadata, Subscriber as Log, span};
use watermill_core::Subscriber;
use watermill_sql::{
    SqlDatabase, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber, SqlSubscriberConfig,
};

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

/// A slow machine asks no more in the same time.
async fn a_hundred_subscriptions_ask_a_hundred_questions_a_second<D: SqlDatabase>(pool: Pool<D>) {
    static COUNTING: Once = Once::new();
    static ALONE: Mutex<()> = Mutex::const_new(());
    COUNTING.call_once(|| tracing::subscriber::set_global_default(Counter).unwrap());
    let _alone = ALONE.lock().await;
    let logs = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let queues = SqlQueueSubscriber::new(pool, SqlQueueSubscriberConfig::default()).unwrap();
    let mut subscriptions = Vec::new();
    for n in 0..90 {
        subscriptions.push(logs.subscribe(&format!("log{n}")).await.unwrap());
    }
    for n in 0..10 {
        subscriptions.push(queues.subscribe(&format!("queue{n}")).await.unwrap());
    }
    // Each has looked closely at the beginning, and has come to rest; their leases have come to be renewed together.
    sleep(Duration::from_secs(8)).await;
    let (begun, before) = (Instant::now(), STATEMENTS.load(Ordering::Relaxed));
    sleep(Duration::from_secs(6)).await;
    let asked = STATEMENTS.load(Ordering::Relaxed) - before;
    let rate = asked as f64 / begun.elapsed().as_secs_f64();
    // As many in the mean: what comes every thirty seconds may come in these.
    assert!((1.0..=100.0).contains(&rate), "{rate} questions a second");
    for subscription in subscriptions {
        subscription.close().await.unwrap();
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_asks_postgres_little() {
    let database = postgres_database::Database::default();
    a_hundred_subscriptions_ask_a_hundred_questions_a_second(database.pool().await).await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_asks_mysql_little() {
    let database = mysql_database::Database::default();
    a_hundred_subscriptions_ask_a_hundred_questions_a_second(database.pool().await).await;
}
