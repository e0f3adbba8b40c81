//! How fast a backlog is relayed, by whom.

use std::time::Duration;

use tokio::time::Instant;
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    NAME, Options,
    by_hand::ByHand,
    counted::Tally,
    ours::{Delivery, Relay},
    outbox::Outbox,
    servers::Servers,
};

/// Of the table's rows at once.
const BATCHES: [usize; 3] = [500, 1_000, 4_000];
/// Rounds in which all take turns, so that what else the machine does hits all alike.
const ROUNDS: usize = 5;

const UNIT: &str = "messages per second";

pub(crate) async fn measure(servers: &Servers, options: &Options, figures: &mut Figures) {
    if !options.wants("drain") {
        return;
    }
    let (pool, count) = (servers.pool().await, options.size(200_000, 40_000));
    let outbox = Outbox::new(&pool, &servers.destination().await).await;
    outbox.fill(count).await;
    let by_hand =
        ByHand { pool: pool.clone(), brokers: servers.kafka.url().to_owned(), topic: outbox.topic.clone() };
    let relay = |delivery, batch| {
        let (pool, topic, group) = (pool.clone(), outbox.topic.clone(), unique("relay"));
        Relay { delivery, pool, brokers: servers.kafka.url().to_owned(), topic, group, batch, source: None }
    };
    let mut slowest = f64::INFINITY;
    for batch in BATCHES {
        let name = format!("{NAME}/drain/batch-{batch}");
        if options.filter.as_ref().is_some_and(|filter| !name.starts_with(filter)) {
            continue;
        }
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..options.size(ROUNDS, 3) {
            for who in (0..3).map(|who| (who + round) % 3) {
                let took = match who {
                    0 => by_hand.drain(count, batch).await,
                    1 => drain(relay(Delivery::AtLeastOnce, batch), count).await,
                    _ => drain(relay(Delivery::ExactlyOnce, batch), count).await,
                };
                rates[who].push(workload::per_second(count, took));
            }
        }
        for (who, rates) in ["by-hand", "at-least-once", "exactly-once"].iter().zip(&rates) {
            let shown: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            eprintln!("{:<44} {}", format!("{name}/{who}"), shown.join(" "));
        }
        let [by_hand, at_least_once, exactly_once] = rates.map(workload::middle);
        slowest = slowest.min(at_least_once);
        let figure = |who: &str, rate| Figure::new(format!("{name}/{who}"), rate, UNIT);
        figures.push(figure("at-least-once", at_least_once).baseline(by_hand).limit(Limit::AtLeast(1.0)));
        figures.push(figure("exactly-once", exactly_once).baseline(at_least_once).limit(Limit::AtLeast(0.8)));
    }
    if slowest.is_finite() {
        let few = options.size(2_000, 500);
        let one_by_one = workload::per_second(few, by_hand.one_by_one(few).await);
        let figure = Figure::new(format!("{NAME}/drain/one-by-one"), slowest, UNIT).baseline(one_by_one);
        figures.push(figure.limit(Limit::AtLeast(50.0)));
    }
    pool.close().await;
}

/// How long a relay takes for so many, from its start until all are recorded.
pub(crate) async fn drain(relay: Relay, count: usize) -> Duration {
    let (tally, started) = (Tally::default(), Instant::now());
    let report = relay.run(&tally, tally.clone().reaches(count)).await;
    let took = started.elapsed();
    assert_eq!(report.forwarded, count as u64);
    took
}

/// The rate at which latency is measured: half of a relay's with batches of 1,000.
pub(crate) async fn half_rate(servers: &Servers, delivery: Delivery) -> f64 {
    const COUNT: usize = 40_000;
    const BATCH: usize = 1_000;
    let pool = servers.pool().await;
    let outbox = Outbox::new(&pool, &servers.destination().await).await;
    outbox.fill(COUNT).await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let relay = Relay {
            delivery,
            pool: pool.clone(),
            brokers: servers.kafka.url().to_owned(),
            topic: outbox.topic.clone(),
            group: unique("relay"),
            batch: BATCH,
            source: None,
        };
        rates.push(workload::per_second(COUNT, drain(relay, COUNT).await));
    }
    pool.close().await;
    workload::middle(rates) / 2.0
}
