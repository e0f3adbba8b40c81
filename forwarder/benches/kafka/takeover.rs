//! How long messages wait when the relay is killed that is at work, and another stands by.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::mpsc::{Sender, channel},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use watermill_testkit::{Figure, Figures, Limit, unique};

use crate::{
    NAME, Options,
    consumer::Consumer,
    latency::commit,
    ours::Delivery,
    outbox::Outbox,
    process::{Process, Task},
    servers::Servers,
};

const BEAT: Duration = Duration::from_millis(5);
const BATCH: usize = 500;
/// What is committed while nothing comes, for a minute.
const COMMITTED_MAX: usize = 12_000;

pub(crate) async fn measure(servers: &Servers, options: &Options, figures: &mut Figures) {
    if !options.wants("takeover") {
        return;
    }
    for delivery in Delivery::BOTH {
        let (pool, destination) = (servers.pool().await, servers.destination().await);
        let outbox = Outbox::new(&pool, &destination).await;
        let group = unique("relay");
        let (postgres, brokers, topic) = (servers.postgres.url(), servers.kafka.url(), &*outbox.topic);
        let task = Task { delivery, postgres, brokers, topic, group: &group, batch: BATCH, count: 1 };
        let (tell, mut committed) = channel(COMMITTED_MAX);
        let mut consumer = Consumer::start(brokers, &destination);
        commit(&outbox, 0, 1).await;
        let mut active = Process::start(&task).await;
        active.has_accepted().await;
        consumer.next().await;
        let rounds = async {
            for _ in 0..options.size(7, 3) {
                let mut standby = Process::start(&task).await;
                sleep(Duration::from_millis(fastrand::u64(1_000..1_500))).await;
                active.kill();
                standby.has_accepted().await;
                sleep(Duration::from_millis(500)).await;
                std::mem::replace(&mut active, standby).wait().await;
            }
        };
        let mut longest = Duration::ZERO;
        let waits = async {
            let mut commits = HashMap::new();
            loop {
                let (number, at) = consumer.next().await;
                while let Ok((number, commits_at)) = committed.try_recv() {
                    commits.insert(number, commits_at);
                }
                // What comes twice was counted; of what came before its writer was told so nothing was waited for.
                if let Some(commits_at) = commits.remove(&number) {
                    longest = longest.max(at.saturating_duration_since(commits_at));
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = write(&outbox, tell) => unreachable!("it goes on"),
            () = waits => unreachable!("it goes on"),
        }
        active.stop().await;
        let longest = longest.as_secs_f64() * 1e3;
        let name = format!("{NAME}/takeover/{delivery}/longest");
        let figure = Figure::new(name, longest, "ms that a message has waited after a kill -9");
        figures.push(figure.limit(Limit::AtMost(1_500.0)));
        pool.close().await;
    }
}

/// Commits a message at each beat.
async fn write(outbox: &Outbox, committed: Sender<(usize, Instant)>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 1.. {
        beat.tick().await;
        let at = commit(outbox, number, 1).await;
        let _ = committed.send((number, at)).await;
    }
}
