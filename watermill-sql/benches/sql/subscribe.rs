//! How fast a log is read by a consumer that acks each delivery and does nothing else, beside a loop that
//! was written by hand, and whether that depends on how much is unread.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use sqlx::Pool;
use tokio::time::Instant;
use watermill_core::{Publisher, Subscriber, Subscription};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    Options,
    database::Bench,
    raw::Depth,
    rounds::{Contender, in_turn},
};

/// Many short ones, so that some have the machine for themselves.
const ROUNDS: usize = 21;
const COUNT: usize = 40_000;
/// Unread rows of the small topic, and what is read of either to compare them.
const FEW: usize = 1_000;
const FEW_ROUNDS: usize = 51;

pub(crate) async fn measure<D: Bench>(options: &Options, figures: &mut Figures) {
    let name = format!("subscribe/{}", D::LABEL);
    if !options.wants(&name) {
        return;
    }
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    let many = options.size(1_000_000, 20_000);
    let large = filled(&pool, many).await;
    let small = filled(&pool, FEW).await;
    for batch in [100, 1_000] {
        batches(&pool, &large, batch, many.min(COUNT), figures).await;
    }
    backlog(&pool, [&small, &large], many, figures).await;
    whole(&pool, &large, many, figures).await;
    pool.close().await;
}

/// A topic with so many messages.
pub(crate) async fn filled<D: Bench>(pool: &Pool<D>, count: usize) -> Arc<str> {
    const CALL: usize = 1_000;
    let topic: Arc<str> = unique("subscribe").into();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    publisher.initialize(&topic).await.expect("a fresh topic");
    for messages in workload::calls(count, CALL) {
        publisher.publish(&topic, messages).await.expect("the database takes them");
    }
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).expect("it is valid");
    subscriber.initialize(&topic).await.expect("its other tables");
    let mut connection = pool.acquire().await.expect("a connection");
    D::settle_down(&mut connection, &topic).await.expect("a topic of ours");
    topic
}

/// The same rows with our subscription and by hand.
async fn batches<D: Bench>(
    pool: &Pool<D>,
    topic: &Arc<str>,
    batch: usize,
    count: usize,
    figures: &mut Figures,
) {
    let name = format!("subscribe/{}/batch-{batch}", D::LABEL);
    compare(&name, pool, topic, batch, count, ROUNDS, figures).await;
}

/// The rate must not depend on how many rows are unread.
async fn backlog<D: Bench>(pool: &Pool<D>, topics: [&Arc<str>; 2], many: usize, figures: &mut Figures) {
    const BATCH: usize = 100;
    // Two batches fewer than there are at least, so that as much is read ahead of either.
    const COUNT: usize = FEW - 2 * BATCH;
    let names = [FEW, many].map(|count| format!("subscribe/{}/{count}-unread", D::LABEL));
    let contenders = names
        .iter()
        .zip(topics)
        .map(|(name, topic)| Contender::new(name, subscribed(pool, topic, BATCH, COUNT, false)));
    let results = in_turn(FEW_ROUNDS, COUNT, contenders.collect()).await;
    let [few, many] = names;
    let figure =
        Figure::new(&many, results.middle(&many), "messages per second").baseline(results.middle(&few));
    figures.push(figure.limit(Limit::AtLeast(0.9)));
}

/// Everything there is, once.
async fn whole<D: Bench>(pool: &Pool<D>, topic: &Arc<str>, count: usize, figures: &mut Figures) {
    let name = format!("subscribe/{}/all-{count}", D::LABEL);
    compare(&name, pool, topic, 100, count, 1, figures).await;
}

async fn compare<D: Bench>(
    name: &str,
    pool: &Pool<D>,
    topic: &Arc<str>,
    batch: usize,
    count: usize,
    rounds: usize,
    figures: &mut Figures,
) {
    let (raw, columns) = (format!("{name}/raw"), format!("{name}/raw-columns"));
    let contenders = vec![
        Contender::new(name, subscribed(pool, topic, batch, count, true)),
        Contender::new(&raw, by_hand(pool, topic, batch, count, Depth::Message)),
        Contender::new(&columns, by_hand(pool, topic, batch, count, Depth::Columns)),
    ];
    let results = in_turn(rounds, count, contenders).await;
    let figure =
        |of: &str| Figure::new(of, results.middle(of), "messages per second").baseline(results.middle(&raw));
    figures.push(figure(name).limit(Limit::AtLeast(0.8)));
    // What is left out by whoever leaves metadata as text.
    figures.push(figure(&columns));
}

/// Reads `count` messages for a group of its own. The time ends with the last ack or, `through`, when that
/// is recorded.
pub(crate) fn subscribed<D: Bench>(
    pool: &Pool<D>,
    topic: &Arc<str>,
    batch: usize,
    count: usize,
    through: bool,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, topic) = (pool.clone(), topic.clone());
    move || {
        let config = SqlSubscriberConfig::default().group(unique("group")).batch_size(batch);
        let subscriber = SqlSubscriber::new(pool.clone(), config).expect("it is valid");
        let topic = topic.clone();
        Box::pin(async move {
            let mut subscription: Subscription = subscriber.subscribe(&topic).await.expect("a topic of ours");
            let started = Instant::now();
            for _ in 0..count {
                subscription.next().await.expect("it goes on").expect("a message").ack();
            }
            let acked = started.elapsed();
            subscription.close().await.expect("a clean end");
            if through { started.elapsed() } else { acked }
        })
    }
}

/// Reads as many by hand, over one connection, and moves the position after each batch.
pub(crate) fn by_hand<D: Bench>(
    pool: &Pool<D>,
    topic: &Arc<str>,
    batch: usize,
    count: usize,
    depth: Depth,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, topic) = (pool.clone(), topic.clone());
    let (read, advance) = (D::read_text(&topic), D::advance_text(&topic));
    move || {
        let (pool, topic, read, advance) = (pool.clone(), topic.clone(), read.clone(), advance.clone());
        let limit = i64::try_from(batch).expect("a small number");
        Box::pin(async move {
            let group = unique("group");
            let mut connection = pool.acquire().await.expect("a connection");
            D::begin_group(&mut connection, &topic, &group).await.expect("a new group");
            let started = Instant::now();
            let (mut position, mut done) = (0, 0);
            while done < count {
                let (last, rows) = D::read_rows(&mut connection, &read, position, limit, depth)
                    .await
                    .expect("a topic of ours");
                (position, done) = (last, done + rows);
                D::move_position(&mut connection, &advance, &group, position).await.expect("a group of ours");
            }
            started.elapsed()
        })
    }
}
