//! What order by key costs a queue on PostgreSQL: beside one without order that holds the same messages, and with a hot
//! key in front of everything.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, future::join_all};
use sqlx::{PgPool, Postgres};
use tokio::time::Instant;
use watermill_core::{Message, Publisher, Subscriber};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    Options,
    database::Bench,
    rounds::{Contender, in_turn},
};

const ROUNDS: usize = 3;
const WORKERS: usize = 8;
const NAME: &str = "queue/postgres/by-key";

pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    if !options.wants(NAME) {
        return;
    }
    let database = Postgres::database();
    let pool = Postgres::pool(&database, 20).await;
    let waiting = options.size(1_000_000, 100_000);
    let each = options.size(40_000, 4_000);
    // Hardly two at a time of one key.
    let cold = |n: usize| workload::keyed_message(n, waiting / 4);
    let hot = |n: usize| if n < waiting / 10 { workload::keyed_message(0, 1) } else { cold(n) };
    let unordered = filled(&pool, false, waiting, cold).await;
    let ordered = filled(&pool, true, waiting, cold).await;
    let beside_hot = filled(&pool, true, waiting, hot).await;
    // The hot key is in hand all the time, and a tenth of all rows wait behind it.
    let mut holder = subscriber(&pool, true).subscribe(&beside_hot).await.expect("a topic of ours");
    let held = holder.next().await.expect("it goes on").expect("a message");

    let names = ["without-order", "8-workers", "8-workers-beside-a-hot-key"].map(|of| format!("{NAME}/{of}"));
    let contenders = vec![
        Contender::new(&names[0], working(&pool, &unordered, false, each)),
        Contender::new(&names[1], working(&pool, &ordered, true, each)),
        Contender::new(&names[2], working(&pool, &beside_hot, true, each)),
    ];
    let results = in_turn(ROUNDS, each, contenders).await;
    let [without, by_key, beside] = names.each_ref().map(|name| results.middle(name));
    figures.push(
        Figure::new(&names[1], by_key, "messages per second").baseline(without).limit(Limit::AtLeast(0.7)),
    );
    figures.push(
        Figure::new(&names[2], beside, "messages per second").baseline(by_key).limit(Limit::AtLeast(0.7)),
    );
    drop((held, holder));
    pool.close().await;
}

async fn filled(pool: &PgPool, ordered: bool, count: usize, message: impl Fn(usize) -> Message) -> Arc<str> {
    const CALL: usize = 1_000;
    let topic: Arc<str> = unique("queue").into();
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlPublisher::new(pool.clone(), config).expect("it is valid");
    subscriber(pool, ordered).initialize(&topic).await.expect("a fresh topic");
    for from in (0..count).step_by(CALL) {
        let call = (from..count.min(from + CALL)).map(&message).collect();
        publisher.publish(&topic, call).await.expect("the database takes them");
    }
    let vacuum = sqlx::AssertSqlSafe(format!(r#"vacuum analyze "watermill_{topic}""#));
    sqlx::query(vacuum).execute(pool).await.expect("a topic of ours");
    topic
}

fn subscriber(pool: &PgPool, ordered: bool) -> SqlQueueSubscriber<Postgres> {
    let config = SqlQueueSubscriberConfig::default().ordered_by_key(ordered);
    SqlQueueSubscriber::new(pool.clone(), config).expect("it is valid")
}

/// Eight subscriptions take `count` messages together, ack each and do nothing else.
fn working(
    pool: &PgPool,
    topic: &Arc<str>,
    ordered: bool,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, topic) = (pool.clone(), topic.clone());
    move || {
        let (subscriber, topic) = (subscriber(&pool, ordered), topic.clone());
        Box::pin(async move {
            let subscriptions = join_all((0..WORKERS).map(|_| subscriber.subscribe(&topic))).await;
            let started = Instant::now();
            let workers = subscriptions.into_iter().map(|subscription| {
                let mut subscription = subscription.expect("a topic of ours");
                tokio::spawn(async move {
                    for _ in 0..count / WORKERS {
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
