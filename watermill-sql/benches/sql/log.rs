//! Reading a log: beside a raw loop, with a small and a large backlog, and how soon a commit is seen.

use std::time::Duration;

use futures::StreamExt;
use sqlx::Pool;
use tokio::time::Instant;
use watermill_core::{Publisher, PublisherExt, Subscriber, Subscription};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Figure, Limit, unique, workload};

use crate::{
    figure::{Chosen, large, middle},
    raw::{self, Raw},
};

/// Messages of a round.
const MESSAGES: usize = 32_000;
const SMALL: usize = 1_024;

pub(crate) async fn measure<R: Raw>(server: &R, chosen: &mut Chosen) {
    let pool = server.pool(5).await;
    let name = |what: &str| format!("{}/log/{what}", R::NAME);
    let wanted = |what: &str| chosen.has(&name(what));
    if ["batch-100", "batch-1000", "backlog", "statements"].iter().any(|what| wanted(what)) {
        fill::<R>(&pool, "small", SMALL).await;
        fill::<R>(&pool, "large", large().max(MESSAGES)).await;
    }
    for (batch, limit) in [(100, 0.7), (1_000, 0.7)] {
        let ours = async || read::<R>(&pool, "large", batch, MESSAGES).await;
        let raw = async || {
            let started = Instant::now();
            R::read(&pool, "large", batch, MESSAGES).await;
            started.elapsed()
        };
        chosen.compare(name(&format!("batch-{batch}")), MESSAGES, Some(limit), ours, raw).await;
    }
    backlog::<R>(&pool, chosen, name("backlog")).await;
    statements::<R>(&pool, chosen, name("statements")).await;
    commit_to_handler::<R>(&pool, chosen, name("commit-to-handler")).await;
}

async fn fill<R: Raw>(pool: &Pool<R::Database>, topic: &str, rows: usize) {
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("a valid config");
    publisher.initialize(topic).await.expect("the table is made");
    R::insert(pool, topic, &raw::rows(&[workload::message(0)])).await;
    R::fill(pool, topic, rows.next_power_of_two().ilog2()).await;
}

async fn subscribe<R: Raw>(pool: &Pool<R::Database>, topic: &str, batch: usize) -> Subscription {
    let config = SqlSubscriberConfig::default().group(unique("bench")).batch_size(batch).max_ahead(batch * 4);
    let subscriber = SqlSubscriber::new(pool.clone(), config).expect("a valid config");
    subscriber.subscribe(topic).await.expect("it begins")
}

/// A new group that acks each delivery as it comes.
async fn read<R: Raw>(pool: &Pool<R::Database>, topic: &str, batch: usize, messages: usize) -> Duration {
    let mut subscription = subscribe::<R>(pool, topic, batch).await;
    let started = Instant::now();
    for _ in 0..messages {
        let delivery = subscription.next().await.expect("the stream goes on").expect("no trouble");
        std::hint::black_box(delivery.metadata());
        delivery.ack();
    }
    let took = started.elapsed();
    subscription.close().await.expect("it ends");
    took
}

/// The rate with many unread rows over the rate with few.
async fn backlog<R: Raw>(pool: &Pool<R::Database>, chosen: &mut Chosen, name: String) {
    let small = async || {
        let mut took = Duration::ZERO;
        for _ in 0..MESSAGES / SMALL {
            took += read::<R>(pool, "small", 100, SMALL).await;
        }
        took
    };
    let large = async || read::<R>(pool, "large", 100, MESSAGES).await;
    chosen.compare(name, MESSAGES, Some(0.9), large, small).await;
}

/// Statements for each message, at a hundred a batch, as the server counts them.
async fn statements<R: Raw>(pool: &Pool<R::Database>, chosen: &mut Chosen, name: String) {
    if !chosen.has(&name) {
        return;
    }
    let before = R::statements(pool).await;
    read::<R>(pool, "large", 100, MESSAGES).await;
    let statements = R::statements(pool).await - before;
    let figure = Figure::new(name, statements as f64 / MESSAGES as f64, "a message");
    chosen.push(figure.limit(Limit::AtMost(0.05)));
}

/// From before the publishing call, commit included, to the delivery, while nothing else happens.
async fn commit_to_handler<R: Raw>(pool: &Pool<R::Database>, chosen: &mut Chosen, name: String) {
    const TIMES: usize = 100;
    if !chosen.has(&name) {
        return;
    }
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("a valid config");
    publisher.initialize("idle").await.expect("the table is made");
    let mut subscription = subscribe::<R>(pool, "idle", 100).await;
    let mut times = Vec::new();
    for n in 0..TIMES {
        // Until polling has backed off.
        tokio::time::sleep(Duration::from_millis(40)).await;
        // Over a connection of its own: what this process publishes over a pool wakes its readers at once.
        let mut transaction = pool.begin().await.expect("it begins");
        let inside = SqlPublisher::in_transaction(&mut transaction);
        inside.publish_one("idle", workload::message(n)).await.expect("it is accepted");
        // Told too early by the drop, readers hear of the commit from the database alone.
        drop(inside);
        tokio::time::sleep(Duration::from_millis(60)).await;
        let started = Instant::now();
        transaction.commit().await.expect("it commits");
        let delivery = subscription.next().await.expect("the stream goes on").expect("no trouble");
        times.push(started.elapsed());
        delivery.ack();
    }
    subscription.close().await.expect("it ends");
    publisher.close().await.expect("it closes");
    let figure = Figure::new(name, middle(times).as_secs_f64() * 1_000.0, "ms");
    chosen.push(if R::NAME == "postgres" { figure.limit(Limit::AtMost(5.0)) } else { figure });
}
