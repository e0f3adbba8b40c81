//! What fails is tried again later and holds nothing up; what fails too often is put aside, until somebody sends it back.
//!
//! The retries wait in queues of a database, so that they outlive the process.
//!
//! ```sh
//! cargo run --bin delayed_requeue
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, Message, Publisher as _, RetryTopics, Router, State,
    components::Requeuer,
    error::BoxError,
    router::{Phase, RouterControl},
};
use watermill_sql::{
    Layout, PayloadColumn, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig,
};

/// Whether the bank is open again.
type Bank = Arc<AtomicBool>;

async fn charge(State(bank): State<Bank>, order: Message) -> Result<(), BoxError> {
    let customer = String::from_utf8_lossy(order.payload());
    if customer == "eve" && !bank.load(Ordering::Relaxed) {
        println!("{customer}: the bank does not answer");
        return Err("the bank does not answer".into());
    }
    println!("{customer}: charged");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    let (broker, bank) = (MemoryBroker::new(), Bank::default());
    let config = SqlPublisherConfig::default().layout(Layout::Queue).payload_column(PayloadColumn::Bytes);
    let queue = SqlPublisher::new(pool.clone(), config)?;
    let config = SqlQueueSubscriberConfig::default().payload_column(PayloadColumn::Bytes);
    let queued = Arc::new(SqlQueueSubscriber::new(pool, config)?);

    let retries = RetryTopics::new(queue.clone(), queued.clone(), "charges.retry")
        .after([Duration::from_millis(100), Duration::from_millis(200)])
        .then_dead_letter(queue, "charges.failed")
        .giving_up_order();
    let charge = Handler::new("charge", charge)
        .from(broker.subscriber().group("bank"), "charges")
        .on_failure(FailurePolicy::nack().then_retry_topics(retries));
    let router = Router::new().with_state(bank.clone()).add(charge);
    let (control, handle) = (router.control(), router.handle());
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let orders = ["alice", "eve", "bob"].map(Message::new);
    broker.publisher().publish("charges", orders.into()).await?;
    until(&control, "charge.retry.200ms", |counts| counts.dead_lettered == 1).await;

    bank.store(true, Ordering::Relaxed);
    println!("the bank is open again: what failed is sent back");
    let requeuer = Requeuer::new(queued, "charges.failed", broker.publisher())
        .delay(Duration::ZERO)
        .max_retries(3, "charges.dead")
        .handlers()?;
    for (_, added) in handle.merge(requeuer).await {
        added?;
    }
    until(&control, "charge", |counts| counts.acked == 3).await;
    drop(handle);
    control.stop();
    running.await??;
    Ok(())
}

async fn until(
    control: &RouterControl,
    handler: &str,
    reached: impl Fn(watermill_core::router::Counts) -> bool,
) {
    while !control.handler(handler).is_some_and(|status| reached(status.counts)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
