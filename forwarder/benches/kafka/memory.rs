//! How much memory a relay takes while it has a backlog before it, and while its destination does not answer.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use watermill_testkit::{Figure, Figures, Limit, unique};

use crate::{
    NAME, Options,
    ours::Delivery,
    outbox::Outbox,
    process::{Process, Task},
    servers::Servers,
};

const BATCH: usize = 1_000;
const FEW: usize = 10_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// After what was in hand when a broker hangs has been queued, nothing more may come to it.
const HANGS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(15)];

const UNIT: &str = "MB resident";

pub(crate) async fn measure(servers: &Servers, options: &Options, figures: &mut Figures) {
    if !options.wants("memory") {
        return;
    }
    let many = options.size(1_000_000, 100_000);
    let pool = servers.pool().await;
    let destination = servers.destination().await;
    let (small, large) = (Outbox::new(&pool, &destination).await, Outbox::new(&pool, &destination).await);
    small.fill(FEW).await;
    large.fill(many).await;
    for delivery in Delivery::BOTH {
        let name = format!("{NAME}/memory/{delivery}");
        let few = peak(servers, delivery, &small, FEW).await;
        let at_most = |name: String, value, baseline, limit| {
            Figure::new(name, value, UNIT).baseline(baseline).limit(Limit::AtMost(limit))
        };
        let whole = peak(servers, delivery, &large, many).await;
        figures.push(at_most(format!("{name}/{many}-pending"), whole, few, 1.2));
        let [early, late] = hanging(servers, delivery, &large).await;
        figures
            .push(Figure::new(format!("{name}/hanging-{}-s", HANGS[0].as_secs()), early, UNIT).baseline(few));
        figures.push(at_most(format!("{name}/hanging-{}-s", HANGS[1].as_secs()), late, early, 1.1));
    }
    pool.close().await;
}

/// The most that a relay has had, from its start until all of a backlog is relayed.
async fn peak(servers: &Servers, delivery: Delivery, outbox: &Outbox, count: usize) -> f64 {
    let mut relay = start(servers, delivery, outbox, count).await;
    let mut peak = 0;
    loop {
        let accepted = timeout(LOOK_INTERVAL, relay.has_accepted()).await.is_ok();
        peak = peak.max(relay.resident());
        if accepted {
            relay.stop().await;
            return megabytes(peak);
        }
    }
}

/// What it has at those times after the broker was stopped where it stands.
async fn hanging(servers: &Servers, delivery: Delivery, outbox: &Outbox) -> [f64; 2] {
    let mut relay = start(servers, delivery, outbox, FEW).await;
    relay.has_accepted().await;
    tokio::task::block_in_place(|| servers.kafka.freeze());
    let frozen = Instant::now();
    let mut resident = [0.0; 2];
    for (resident, at) in resident.iter_mut().zip(HANGS) {
        sleep(at.saturating_sub(frozen.elapsed())).await;
        *resident = megabytes(relay.resident());
    }
    relay.kill();
    relay.wait().await;
    tokio::task::block_in_place(|| servers.kafka.thaw());
    resident
}

async fn start(servers: &Servers, delivery: Delivery, outbox: &Outbox, count: usize) -> Process {
    let (postgres, brokers, topic) = (servers.postgres.url(), servers.kafka.url(), &*outbox.topic);
    let group = unique("relay");
    Process::start(&Task { delivery, postgres, brokers, topic, group: &group, batch: BATCH, count }).await
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
