//! How long it takes from the begin of a commit until a consumer has the message.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use watermill_testkit::{Figure, Figures, Limit, unique};

use crate::{
    NAME, Options,
    consumer::Consumer,
    drain,
    ours::Delivery,
    outbox::Outbox,
    process::{Process, Task},
    servers::Servers,
};

/// Between messages of an idle topic, and up to so much longer, so that no beat is kept.
const PAUSE: (Duration, u64) = (Duration::from_millis(50), 100);
/// Who share half of the load, and how often each commits.
const WRITERS: usize = 4;
const BEAT: Duration = Duration::from_millis(20);
const BATCH: usize = 1_000;

pub(crate) async fn measure(servers: &Servers, options: &Options, figures: &mut Figures) {
    if !options.wants("latency") {
        return;
    }
    for delivery in Delivery::BOTH {
        let rate = drain::half_rate(servers, delivery).await;
        let (pool, destination) = (servers.pool().await, servers.destination().await);
        let outbox = Outbox::new(&pool, &destination).await;
        let (postgres, brokers, group) = (servers.postgres.url(), servers.kafka.url(), unique("relay"));
        let (topic, count) = (&*outbox.topic, 1);
        let relay =
            Process::start(&Task { delivery, postgres, brokers, topic, group: &group, batch: BATCH, count })
                .await;
        let mut consumer = Consumer::start(brokers, &destination);
        let name = format!("{NAME}/latency/{delivery}");
        let idle_max = if delivery == Delivery::ExactlyOnce { 25.0 } else { 10.0 };
        idle(&outbox, &mut consumer, options, (&format!("{name}/idle"), idle_max), figures).await;
        half_load(&outbox, &mut consumer, options, (&format!("{name}/half-load"), rate), figures).await;
        relay.stop().await;
        pool.close().await;
    }
}

async fn idle(
    outbox: &Outbox,
    consumer: &mut Consumer,
    options: &Options,
    (name, median_max): (&str, f64),
    figures: &mut Figures,
) {
    // The first has to wait for the relay to connect.
    const FIRST: usize = 10;
    let mut times = Vec::new();
    for number in 0..FIRST + options.size(200, 40) {
        sleep(PAUSE.0 + Duration::from_millis((number as u64 * 37) % PAUSE.1)).await;
        let commits_at = commit(outbox, number, 1).await;
        let (received, at) = consumer.next().await;
        assert_eq!(received, number);
        if number >= FIRST {
            times.push(at.saturating_duration_since(commits_at));
        }
    }
    show(name, times, [Some(median_max), None], figures);
}

/// Writers that commit some messages at a beat, at this rate together.
async fn half_load(
    outbox: &Outbox,
    consumer: &mut Consumer,
    options: &Options,
    (name, rate): (&str, f64),
    figures: &mut Figures,
) {
    const FIRST: usize = 1_000_000;
    let each = ((rate * BEAT.as_secs_f64()) as usize / WRITERS).max(1);
    let beats = (options.size(10, 3) as f64 / BEAT.as_secs_f64()) as usize;
    let count = each * beats * WRITERS;
    let begun = Instant::now();
    let writers = (0..WRITERS).map(|writer| async move {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut committed = Vec::new();
        for number in 0..beats {
            beat.tick().await;
            let first = FIRST + (number * WRITERS + writer) * each;
            committed.push((first, commit(outbox, first, each).await));
        }
        committed
    });
    let received = async {
        let mut received = HashMap::with_capacity(count);
        while received.len() < count {
            let (number, at) = consumer.next().await;
            received.insert(number, at);
        }
        received
    };
    let (committed, received) = tokio::join!(futures::future::join_all(writers), received);
    eprintln!("{name:<44} {count} messages in {:.1?}, {rate:.0} a second were asked for", begun.elapsed());
    let times = committed.into_iter().flatten().flat_map(|(first, commits_at)| {
        let of = first..first + each;
        of.map(|number| received[&number].saturating_duration_since(commits_at)).collect::<Vec<_>>()
    });
    show(name, times.collect(), [None, Some(100.0)], figures);
}

/// Writes messages in a transaction, and returns when that began to commit.
pub(crate) async fn commit(outbox: &Outbox, first: usize, count: usize) -> Instant {
    let mut transaction = outbox.pool.begin().await.expect("a connection");
    outbox.insert(&mut transaction, first, count).await;
    let commits_at = Instant::now();
    transaction.commit().await.expect("it is committed");
    commits_at
}

/// The middle one and the longest but a hundredth, and what they may be at most.
fn show(name: &str, mut times: Vec<Duration>, limits: [Option<f64>; 2], figures: &mut Figures) {
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    for (percent, limit) in [50, 99].into_iter().zip(limits) {
        let figure =
            Figure::new(format!("{name}/p{percent}"), percentile(percent), "ms from commit to consumer");
        figures.push(match limit {
            Some(limit) => figure.limit(Limit::AtMost(limit)),
            None => figure,
        });
    }
}
