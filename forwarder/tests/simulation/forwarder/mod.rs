//! A schedule of a [`Forwarder`], from its seed to what is checked in the end.

mod destination;

use std::time::Duration;

use fastrand::Rng;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use watermill_core::Backoff;
use watermill_forwarder::{
    Forwarder, ForwarderBuilder, ForwarderConfig, ForwarderControl, ForwarderError, ForwarderReport,
};
use watermill_testkit::ScriptedSubscriber;

use self::destination::Destination;
use crate::{ATTEMPTS, CALL_TIMEOUT, CALM, DRAIN_TIMEOUT, STORM, outbox::Outbox};

struct World {
    seed: u64,
    outbox: Outbox,
    destination: Destination,
    forwarder: ForwarderBuilder,
    batch: usize,
    /// How often something was in hand that was taken away.
    breaks: usize,
}

struct Relay {
    control: ForwarderControl,
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
}

pub(crate) async fn play(seed: u64) {
    let mut world = World::new(seed);
    let start = Instant::now();
    let mut relay = world.start();
    while start.elapsed() < STORM {
        sleep(Duration::from_micros(world.outbox.random.u64(0..120_000))).await;
        match world.outbox.random.u32(0..40) {
            0 => {
                world.breaks += 1;
                relay.task.abort();
                let _ = relay.task.await;
                relay = world.start();
            }
            1 => {
                relay.control.stop();
                let ended = relay.task.await.expect("no panic");
                assert!(ended.is_ok(), "seed {seed}: {ended:?}");
                relay = world.start();
            }
            2 => {
                world.breaks += 1;
                let scope = world.outbox.random.u64(0..4);
                world.outbox.source.revoke(scope);
            }
            3..25 => world.outbox.publish(|bad| world.destination.refuse(bad)),
            _ => drop(world.outbox.source.record(world.outbox.random.usize(0..20))),
        }
    }
    let calm = Instant::now();
    while world.outbox.unsettled() > 0 {
        assert!(
            calm.elapsed() < CALM,
            "seed {seed}: stalled with {} left: {:?}",
            world.outbox.unsettled(),
            relay.control.status()
        );
        world.outbox.go_on();
        for _ in 0..20 {
            sleep(Duration::from_millis(10)).await;
            world.outbox.source.record(usize::MAX);
        }
    }
    relay.control.stop();
    relay.task.await.expect("no panic").expect("a graceful stop");
    world.check();
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let source = ScriptedSubscriber::new().redeliver(true).dead_letters(true);
        if random.bool() {
            source.hold_records();
        }
        let destination = Destination::new(random.fork(), STORM);
        let batch = random.usize(1..12);
        // At the bound of what is blocked nothing more is taken, and nothing tells a bad message from a bad destination.
        let with_bad = random.bool();
        let config = ForwarderConfig::default()
            .batch_size(batch)
            .max_blocked(if with_bad { 10_000 } else { random.usize(1..200) })
            .linger(Duration::from_millis(random.u64(0..2) * 5))
            .backoff(Backoff::exponential(Duration::from_millis(50)).max(Duration::from_secs(1)).jitter(0.0))
            .call_timeout(CALL_TIMEOUT)
            .drain_timeout(DRAIN_TIMEOUT)
            .attempts(ATTEMPTS);
        let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config);
        let outbox = Outbox::new(random, source, with_bad, true);
        Self { seed, outbox, destination, forwarder, batch, breaks: 0 }
    }

    fn start(&self) -> Relay {
        let forwarder = self.forwarder.clone().build().expect("a good configuration");
        let control = forwarder.control();
        Relay { control, task: tokio::spawn(forwarder.run_until(std::future::pending())) }
    }

    fn check(&self) {
        let seed = self.seed;
        let duplicates = self.outbox.check(seed, &self.outbox.rejected(), &self.destination.arrived());
        let bound = self.destination.untold() + self.breaks * 2 * self.batch;
        assert!(
            duplicates <= bound,
            "seed {seed}: {duplicates} duplicates, where {bound} may be: {} untold, {} breaks, batches of {}",
            self.destination.untold(),
            self.breaks,
            self.batch
        );
    }
}
