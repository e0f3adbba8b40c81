//! How long it takes from the begin of a commit until the handler in another process has the message.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use watermill_testkit::{Figure, Figures, Limit, PrivateServer};

use super::{
    other_process::Reader,
    server::{self, Durable},
    writers::{publish, topic},
};
use crate::Options;

/// Between messages of an idle topic, and up to so much longer, so that no beat is kept.
const PAUSE: (Duration, u64) = (Duration::from_millis(150), 100);
/// After this, nobody has looked at a topic more often than at those that were never written to.
const SILENCE: Duration = Duration::from_secs(4);
/// Who share half of the load.
const WRITERS: usize = 8;

pub(crate) async fn measure<D: Durable>(
    server: &PrivateServer,
    name: &str,
    rate: f64,
    options: &Options,
    figures: &mut Figures,
) {
    let (_database, pool, url) = server::database::<D>(server, WRITERS as u32 + 2).await;
    let topic = topic(&pool).await;
    let mut reader = Reader::start::<D>(&url, std::slice::from_ref(&topic), true).await;

    let mut times = Vec::new();
    for number in 0..options.size(300, 60) {
        sleep(PAUSE.0 + Duration::from_millis((number as u64 * 37) % PAUSE.1)).await;
        let commits_at = publish(&pool, &topic, number).await;
        times.push(reader.next().await.1.duration_since(commits_at).unwrap_or_default());
    }
    show(&format!("{name}/idle"), times, Some((5.0, 20.0)), figures);

    let mut times = Vec::new();
    for number in 0..options.size(15, 3) {
        sleep(SILENCE + Duration::from_millis((number as u64 * 7) % 16)).await;
        let commits_at = publish(&pool, &topic, number).await;
        times.push(reader.next().await.1.duration_since(commits_at).unwrap_or_default());
    }
    show(&format!("{name}/after-4-s"), times, None, figures);

    let count = (rate * options.size(10, 3) as f64) as usize / WRITERS * WRITERS;
    let mut tasks = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for writer in 0..WRITERS {
        let (pool, topic) = (pool.clone(), topic.clone());
        let mut beat = interval(Duration::from_secs_f64(WRITERS as f64 / rate));
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        tasks.spawn(async move {
            let mut committed = HashMap::new();
            for number in (writer..count).step_by(WRITERS) {
                beat.tick().await;
                committed.insert(number, publish(&pool, &topic, number).await);
            }
            committed
        });
    }
    let received = async {
        let mut received = HashMap::new();
        while received.len() < count {
            let (number, at) = reader.next().await;
            received.insert(number, at);
        }
        received
    };
    let (committed, received) = tokio::join!(tasks.join_all(), received);
    let times = committed
        .into_iter()
        .flatten()
        .map(|(number, commits_at)| received[&number].duration_since(commits_at).unwrap_or_default());
    eprintln!("half load: {count} messages in {:?}", begun.elapsed());
    show(&format!("{name}/half-load"), times.collect(), Some((f64::INFINITY, 50.0)), figures);
    reader.end().await;
    pool.close().await;
}

/// The middle one and the longest but a hundredth, and what they may be at most.
fn show(name: &str, mut times: Vec<Duration>, limits: Option<(f64, f64)>, figures: &mut Figures) {
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    for (percent, limit) in [(50, limits.map(|limits| limits.0)), (99, limits.map(|limits| limits.1))] {
        let unit = "ms from commit to handler";
        let figure = Figure::new(format!("{name}/p{percent}"), percentile(percent), unit);
        figures.push(match limit.filter(|limit| limit.is_finite()) {
            Some(limit) => figure.limit(Limit::AtMost(limit)),
            None => figure,
        });
    }
}
