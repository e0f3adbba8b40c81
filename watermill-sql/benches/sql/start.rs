//! How long a router with hundreds of handlers takes to start.

use std::sync::Arc;

use sqlx::{Pool, Postgres};
use tokio::time::Instant;
use watermill_core::{Handler, Router, router::Phase};
use watermill_sql::{SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, unique};

use crate::{Options, database::Bench};

const FEW: usize = 10;
const MANY: usize = 300;

/// What each handler of many may take, beside each of a few.
const RATIO_MAX: f64 = 3.0;

/// Each handler reads a topic of its own, whose tables are made by the start.
pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    if !options.wants("start/postgres") {
        return;
    }
    let database = Postgres::database();
    let pool = Postgres::pool(&database, 32).await;
    // The first one has the connections and the server's caches to warm up.
    started(&pool, FEW).await;
    let mut few = Vec::new();
    let mut many = Vec::new();
    for _ in 0..options.size(3, 1) {
        few.push(started(&pool, FEW).await);
        many.push(started(&pool, MANY).await);
    }
    let (few, many) = (middle(few), middle(many));
    figures.push(Figure::new("start/postgres/10", few, "ms for each of 10 handlers"));
    figures.push(
        Figure::new("start/postgres/300", many, "ms for each of 300 handlers")
            .baseline(few)
            .limit(Limit::AtMost(few * RATIO_MAX)),
    );
    pool.close().await;
}

/// The milliseconds for each handler, until all have subscribed.
async fn started(pool: &Pool<Postgres>, handlers: usize) -> f64 {
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).expect("it is valid");
    let subscriber = Arc::new(subscriber);
    let mut router = Router::new();
    for number in 0..handlers {
        let handler = Handler::new(format!("handler-{number}"), async || {});
        router = router.add(handler.from(subscriber.clone(), unique("start")));
    }
    let control = router.control();
    let begun = Instant::now();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    let taken = begun.elapsed();
    assert_eq!(control.phase(), Phase::Running, "the router did not start");
    control.stop();
    running.await.expect("no panic").expect("a clean end");
    taken.as_secs_f64() * 1e3 / handlers as f64
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
