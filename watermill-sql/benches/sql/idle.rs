//! How long a commit takes to reach an idle consumer.

use std::time::Duration;

use futures::StreamExt;
use sqlx::Postgres;
use tokio::time::Instant;
use watermill_core::Subscriber;
use watermill_sql::{SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, workload};

use crate::{Options, database::Bench, raw::Raw, subscribe};

/// How long it takes from before a commit, of a transaction that another process might have, until an
/// idle consumer has its message. It never polls meanwhile.
pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    if !options.wants("subscribe/postgres/idle") {
        return;
    }
    let database = Postgres::database();
    let pool = Postgres::pool(&database, 4).await;
    let topic = subscribe::filled(&pool, 0).await;
    let text = Postgres::notifying_text(&topic, 1).expect("PostgreSQL notifies");
    let hour = Duration::from_secs(3600);
    let config = SqlSubscriberConfig::default().poll_interval_max(hour).poll_interval_min(hour / 2);
    let subscriber = SqlSubscriber::new(pool.clone(), config).expect("it is valid");
    let mut subscription = subscriber.subscribe(&topic).await.expect("a topic of ours");
    let mut times = Vec::new();
    for n in 0..options.size(1_000, 100) + 1 {
        // Idle means that the last ack is recorded, too.
        let mut transaction = pool.begin().await.expect("a connection");
        let messages = [workload::message(n)];
        Postgres::write_rows(&mut transaction, &text, &messages).await.expect("the database takes it");
        let started = Instant::now();
        transaction.commit().await.expect("it is committed");
        let delivery = subscription.next().await.expect("it goes on").expect("a message");
        times.push(started.elapsed());
        delivery.ack_confirmed().await.expect("it is recorded");
    }
    subscription.close().await.expect("a clean end");
    // The first one may be found by the first look.
    times.remove(0);
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    for percent in [50, 95, 99] {
        let name = format!("subscribe/postgres/idle/p{percent}");
        let figure = Figure::new(name, percentile(percent), "ms from commit to handler");
        figures.push(if percent == 50 { figure.limit(Limit::AtMost(5.0)) } else { figure });
    }
    pool.close().await;
}
