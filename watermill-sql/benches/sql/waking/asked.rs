//! How much a process asks that has a hundred subscriptions and nothing to do.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watermill_testkit::{Figure, Figures, Limit, PrivateServer};

use super::{
    other_process::Reader,
    server::{self, Durable},
    writers::topic,
};
use crate::Options;

const SUBSCRIPTIONS: usize = 100;
/// Until those who have just begun have come to rest, and the server has counted what was asked.
const TO_REST: Duration = Duration::from_secs(12);

pub(crate) async fn measure<D: Durable>(
    server: &PrivateServer,
    name: &str,
    options: &Options,
    figures: &mut Figures,
) {
    let (_database, pool, url) = server::database::<D>(server, 1).await;
    let mut topics = Vec::new();
    for _ in 0..SUBSCRIPTIONS {
        topics.push(topic(&pool).await);
    }
    let reader = Reader::start::<D>(&url, &topics, true).await;
    sleep(TO_REST).await;
    let (begun, before) = (Instant::now(), D::asked(&pool).await);
    sleep(Duration::from_secs(options.size(60, 15) as u64)).await;
    let asked = D::asked(&pool).await - before;
    let rate = asked as f64 / begun.elapsed().as_secs_f64();
    let name = format!("{name}/{SUBSCRIPTIONS}-idle-subscriptions");
    figures.push(Figure::new(name, rate, "questions per second, all together").limit(Limit::AtMost(100.0)));
    reader.end().await;
    pool.close().await;
}
