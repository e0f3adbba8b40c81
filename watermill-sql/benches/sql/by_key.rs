//! What order by key costs a queue: beside one without order that holds the same messages, with a hot key that has a tenth
//! of all rows, and whether a claim then costs more in a large table than in a small one.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, future::join_all};
use sqlx::Pool;
use tokio::time::{Instant, sleep};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    Options,
    database::Bench,
    rounds::{Contender, in_turn},
};

const ROUNDS: usize = 5;
const WORKERS: usize = 8;
/// Rows of the small table.
const FEW: usize = 1_000;
/// What one worker takes of it in a round, one a claim.
const CLAIMS: usize = 60;
/// Of so many rows one is of the hot key.
const HOT_OF: usize = 10;

pub(crate) async fn measure<D: Bench>(options: &Options, figures: &mut Figures) {
    let name = format!("queue/{}/by-key", D::LABEL);
    if !options.wants(&name) {
        return;
    }
    let database = D::database();
    let pool = D::pool(&database, 20).await;
    let waiting = options.size(1_000_000, 20_000);
    let each = options.size(16_000, 800);
    // More than are taken, and hardly two at a time of one key.
    let rows = options.size(200_000, 20_000);
    let cold = |n: usize| workload::keyed_message(n, rows / 4);
    let unordered = filled(&pool, false, rows, cold).await;
    let ordered = filled(&pool, true, rows, cold).await;
    let beside_hot = with_hot_key(&pool, waiting).await;
    let few = with_hot_key(&pool, FEW).await;

    let names = ["without-order", "8-workers", "8-workers-beside-a-hot-key"].map(|of| format!("{name}/{of}"));
    let contenders = vec![
        Contender::new(&names[0], working(&pool, &unordered, config(false), WORKERS, each)),
        Contender::new(&names[1], working(&pool, &ordered, config(true), WORKERS, each)),
        Contender::new(&names[2], working(&pool, &beside_hot.topic, config(true), WORKERS, each)),
    ];
    let results = in_turn(ROUNDS, each, contenders).await;
    let [without, by_key, beside] = names.each_ref().map(|name| results.middle(name));
    const UNIT: &str = "messages per second";
    figures.push(Figure::new(&names[1], by_key, UNIT).baseline(without).limit(Limit::AtLeast(0.7)));
    figures.push(Figure::new(&names[2], beside, UNIT).baseline(by_key).limit(Limit::AtLeast(0.7)));

    let names = [FEW, waiting].map(|rows| format!("{name}/claims-of-{rows}-a-tenth-of-one-key"));
    let contenders = names.iter().zip([&few, &beside_hot]).map(|(name, topic)| {
        Contender::new(name, working(&pool, &topic.topic, config(true).batch_size(1), 1, CLAIMS))
    });
    let results = in_turn(ROUNDS, CLAIMS, contenders.collect()).await;
    let [small, large] = names.each_ref().map(|name| results.middle(name));
    figures
        .push(Figure::new(&names[1], large, "claims per second").baseline(small).limit(Limit::AtLeast(0.7)));
    drop((few, beside_hot));
    pool.close().await;
}

fn config(ordered: bool) -> SqlQueueSubscriberConfig {
    SqlQueueSubscriberConfig::default().ordered_by_key(ordered)
}

fn subscriber<D: Bench>(pool: &Pool<D>, config: SqlQueueSubscriberConfig) -> SqlQueueSubscriber<D> {
    SqlQueueSubscriber::new(pool.clone(), config).expect("it is valid")
}

async fn filled<D: Bench>(
    pool: &Pool<D>,
    ordered: bool,
    count: usize,
    message: impl Fn(usize) -> Message,
) -> Arc<str> {
    const CALL: usize = 1_000;
    let topic: Arc<str> = unique("queue").into();
    let queue = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlPublisher::new(pool.clone(), queue).expect("it is valid");
    subscriber(pool, config(false)).initialize(&topic).await.expect("a fresh topic");
    for from in (0..count).step_by(CALL) {
        let call = (from..count.min(from + CALL)).map(&message).collect();
        publisher.publish(&topic, call).await.expect("the database takes them");
    }
    // Only now: to make an index of many rows takes less time than to add them one by one.
    subscriber(pool, config(ordered)).initialize(&topic).await.expect("a topic of ours");
    let mut connection = pool.acquire().await.expect("a connection");
    D::settle_down(&mut connection, &topic).await.expect("a topic of ours");
    topic
}

/// A queue of which one key has a part of the rows, in front of all others, and is in hand all the time.
struct Hot {
    topic: Arc<str>,
    _held: (watermill_core::Subscription, watermill_core::Delivery),
}

async fn with_hot_key<D: Bench>(pool: &Pool<D>, count: usize) -> Hot {
    let message = |n| match n {
        n if n < count / HOT_OF => workload::keyed_message(0, 1),
        n => workload::keyed_message(n, count),
    };
    let topic = filled(pool, true, count, message).await;
    let mut holder = subscriber(pool, config(true)).subscribe(&topic).await.expect("a topic of ours");
    let held = holder.next().await.expect("it goes on").expect("a message");
    // Nothing is measured while what waits is set aside, a part of it a claim.
    let begun = Instant::now();
    while D::count_aside(pool, &topic).await.expect("a topic of ours") + 2_100 < count / HOT_OF {
        sleep(Duration::from_millis(50)).await;
    }
    eprintln!("{:<44} {} ms until {count} rows were set aside", D::LABEL, begun.elapsed().as_millis());
    Hot { topic, _held: (holder, held) }
}

/// So many subscriptions take `count` messages together, ack each and do nothing else.
fn working<D: Bench>(
    pool: &Pool<D>,
    topic: &Arc<str>,
    config: SqlQueueSubscriberConfig,
    workers: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, topic) = (pool.clone(), topic.clone());
    move || {
        let (subscriber, topic) = (subscriber(&pool, config.clone()), topic.clone());
        Box::pin(async move {
            let subscriptions = join_all((0..workers).map(|_| subscriber.subscribe(&topic))).await;
            let started = Instant::now();
            let workers = subscriptions.into_iter().map(|subscription| {
                let mut subscription = subscription.expect("a topic of ours");
                tokio::spawn(async move {
                    for _ in 0..count / workers {
                        subscription.next().await.expect("it goes on").expect("a message").ack();
                    }
                    subscription.close().await.expect("a clean end");
                })
            });
            join_all(workers).await.into_iter().for_each(|worker| worker.expect("no panic"));
            started.elapsed()
        })
    }
}
