//! A schedule of relays that a destination fences, from its seed to what is checked in the end.

mod destination;
mod relays;
mod weather;

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use watermill_core::Backoff;
use watermill_forwarder::{FencedForwarder, ForwarderConfig};
use watermill_testkit::ScriptedSubscriber;

use self::{destination::Destination, relays::Relays};
use crate::{ATTEMPTS, CALL_TIMEOUT, CALM, DRAIN_TIMEOUT, STORM, outbox::Outbox};

/// Where dead letters are published that the source does not keep.
const DEAD: &str = "dead";

struct World {
    seed: u64,
    outbox: Outbox,
    destination: Destination,
    relays: Relays,
    /// Whether the source keeps dead letters.
    source_keeps: bool,
}

pub(crate) async fn play(seed: u64) {
    let mut world = World::new(seed);
    let start = Instant::now();
    while start.elapsed() < STORM {
        sleep(Duration::from_micros(world.outbox.random.u64(0..120_000))).await;
        world.strike().await;
        world.relays.replace_the_fenced().await;
    }
    world.relays.thaw();
    let calm = Instant::now();
    while world.outbox.unsettled() > 0 {
        assert!(
            calm.elapsed() < CALM,
            "seed {seed}: stalled with {} left: {:?}",
            world.outbox.unsettled(),
            world.relays.statuses()
        );
        world.outbox.go_on();
        for _ in 0..20 {
            sleep(Duration::from_millis(10)).await;
            world.outbox.source.record(usize::MAX);
        }
        world.relays.replace_the_fenced().await;
    }
    world.relays.stop().await;
    world.check();
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let source_keeps = random.bool();
        let source = ScriptedSubscriber::new().redeliver(true).exclusive(true).dead_letters(source_keeps);
        if random.bool() {
            source.hold_records();
        }
        let destination = Destination::new(random.fork(), STORM);
        let with_bad = random.bool();
        let config = ForwarderConfig::default()
            .batch_size(random.usize(1..12))
            .max_blocked(if with_bad { 10_000 } else { random.usize(1..200) })
            .linger(Duration::from_millis(random.u64(0..2) * 5))
            .backoff(Backoff::exponential(Duration::from_millis(50)).max(Duration::from_secs(1)).jitter(0.0))
            .call_timeout(CALL_TIMEOUT)
            .drain_timeout(DRAIN_TIMEOUT)
            .dead_letter_topic(DEAD)
            .attempts(ATTEMPTS);
        let relays = {
            let (source, destination) = (source.clone(), destination.clone());
            Relays::new(seed, destination.clone(), move |number| {
                FencedForwarder::builder(source.clone(), destination.of(number), destination::NAME)
                    .config(config.clone())
                    .build()
                    .expect("a good configuration")
            })
        };
        let with_scopes = random.bool();
        let outbox = Outbox::new(random, source, with_bad, with_scopes);
        Self { seed, outbox, destination, relays, source_keeps }
    }

    /// Something happens.
    async fn strike(&mut self) {
        match self.outbox.random.u32(0..44) {
            0 => self.relays.kill(self.outbox.random.usize(..)).await,
            1 => self.relays.stop_one(self.outbox.random.usize(..)).await,
            // A standby, or a relay that stays when another dies.
            2 => self.relays.start(),
            // The lease runs out, though its owner is well.
            3 => self.outbox.source.take_over(),
            // The owner is paused, and its lease runs out.
            4 | 5 => {
                self.relays.freeze(self.outbox.random.usize(..));
                self.outbox.source.take_over();
            }
            6 => self.relays.thaw(),
            7 => self.outbox.source.revoke(self.outbox.random.u64(0..4)),
            8..28 => self.outbox.publish(|bad| self.destination.refuse(bad)),
            _ => drop(self.outbox.source.record(self.outbox.random.usize(0..20))),
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let (dead, arrived): (Vec<_>, Vec<_>) =
            self.destination.arrived().into_iter().partition(|(topic, _)| topic == DEAD);
        let published = dead.len();
        let dead = match self.source_keeps {
            true => self.outbox.rejected(),
            false => dead.iter().map(|(_, message)| message.id().to_string()).collect(),
        };
        assert_eq!(published, if self.source_keeps { 0 } else { dead.len() }, "seed {seed}: dead letters");
        assert_eq!(self.outbox.check(seed, &dead, &arrived), 0, "seed {seed}: nothing is published twice");
    }
}
