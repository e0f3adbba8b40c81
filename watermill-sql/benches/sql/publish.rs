//! How fast messages are published over a pool, beside inserts that were written by hand.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::time::Instant;
use watermill_core::{Message, Publisher};
use watermill_sql::{SqlPublisher, SqlPublisherConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    Options,
    database::Bench,
    rounds::{Contender, in_turn},
};

/// What is at least to be left of the rate of inserts by hand.
const LIMIT: Limit = Limit::AtLeast(0.9);
const ROUNDS: usize = 9;
/// Messages of a call.
const CALL: usize = 100;

pub(crate) async fn measure<D: Bench>(options: &Options, figures: &mut Figures) {
    for (call, full, quick) in [(CALL, 20_000, 2_000), (1, 3_000, 300)] {
        let name = format!("publish/{}/{call}-a-call", D::LABEL);
        if options.wants(&name) {
            calls::<D>(&name, call, options.size(full, quick), figures).await;
        }
    }
}

/// With `call` messages a call, `count` in a round.
async fn calls<D: Bench>(name: &str, call: usize, count: usize, figures: &mut Figures) {
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    let topic: Arc<str> = unique("publish").into();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    let publisher = Arc::new(publisher);
    publisher.initialize(&topic).await.expect("an empty database");

    let raw_name = format!("{name}/raw");
    let contenders = vec![
        Contender::new(name, with_publisher(publisher, &topic, call, count)),
        Contender::new(&raw_name, by_hand(&pool, D::insert_text(&topic, call), call, count)),
    ];
    let results = in_turn(ROUNDS, count, contenders).await;
    let figure = |of: &str, baseline: &str| {
        Figure::new(of, results.middle(of), "messages per second").baseline(results.middle(baseline))
    };
    figures.push(figure(name, &raw_name).limit(LIMIT));
    pool.close().await;
}

pub(crate) fn with_publisher<D: Bench>(
    publisher: Arc<SqlPublisher<D>>,
    topic: &Arc<str>,
    call: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let topic = topic.clone();
    move || {
        let (publisher, topic) = (publisher.clone(), topic.clone());
        Box::pin(async move {
            let calls: Vec<Vec<Message>> = workload::calls(count, call).collect();
            let started = Instant::now();
            for messages in calls {
                publisher.publish(&topic, messages).await.expect("the database takes them");
            }
            started.elapsed()
        })
    }
}

pub(crate) fn by_hand<D: Bench>(
    pool: &Pool<D>,
    text: Arc<str>,
    call: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let pool = pool.clone();
    move || {
        let (pool, text) = (pool.clone(), text.clone());
        Box::pin(async move {
            let calls: Vec<Vec<Message>> = workload::calls(count, call).collect();
            let started = Instant::now();
            for messages in calls {
                let mut connection = pool.acquire().await.expect("a connection");
                D::write_rows(&mut connection, &text, &messages).await.expect("the database takes them");
            }
            started.elapsed()
        })
    }
}
