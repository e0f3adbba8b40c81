//! One schedule, from its seed to what is checked in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use watermill_core::{Backoff, Message, delivery::Outcome, error::PublishErrorKind};
use watermill_forwarder::{
    Envelope, Forwarder, ForwarderBuilder, ForwarderConfig, ForwarderControl, ForwarderError, ForwarderReport,
};
use watermill_testkit::{ScriptedDelivery, ScriptedSubscriber};

use crate::destination::{Destination, TOPICS};

/// How long the weather is bad.
const STORM: Duration = Duration::from_secs(3);

/// Within what time everything has arrived afterwards: calls that hang have to end, and waits that have grown.
const CALM: Duration = Duration::from_secs(60);

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;

struct World {
    seed: u64,
    random: Rng,
    source: ScriptedSubscriber,
    destination: Destination,
    forwarder: ForwarderBuilder,
    batch: usize,
    with_bad: bool,
    /// What was published to the source: the ids of the envelopes, and of what is in them.
    envelopes: BTreeMap<String, String>,
    /// What may be dead-lettered: the ids of envelopes.
    hopeless: BTreeSet<String>,
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
        sleep(Duration::from_micros(world.random.u64(0..120_000))).await;
        match world.random.u32(0..40) {
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
                let scope = world.random.u64(0..4);
                world.source.revoke(scope);
            }
            3..25 => world.publish(),
            _ => drop(world.source.record(world.random.usize(0..20))),
        }
    }
    let calm = Instant::now();
    while world.unsettled() > 0 {
        assert!(
            calm.elapsed() < CALM,
            "seed {seed}: stalled with {} left: {:?}",
            world.unsettled(),
            relay.control.status()
        );
        // Business goes on, which tells a message that is refused from a destination that refuses.
        for topic in TOPICS {
            world.publish_one(topic, None, false);
        }
        for _ in 0..20 {
            sleep(Duration::from_millis(10)).await;
            world.source.record(usize::MAX);
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
            .drain_timeout(Duration::from_secs(2))
            .attempts(ATTEMPTS);
        let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config);
        let (envelopes, hopeless) = (BTreeMap::new(), BTreeSet::new());
        Self { seed, random, source, destination, forwarder, batch, with_bad, envelopes, hopeless, breaks: 0 }
    }

    fn start(&self) -> Relay {
        let forwarder = self.forwarder.clone().build().expect("a good configuration");
        let control = forwarder.control();
        Relay { control, task: tokio::spawn(forwarder.run_until(std::future::pending())) }
    }

    /// Publishes a few messages, now and then one that is hopeless.
    fn publish(&mut self) {
        for _ in 0..self.random.usize(1..6) {
            let topic = TOPICS[self.random.usize(0..TOPICS.len())];
            let key = self.random.u64(0..5);
            let bad = self.with_bad && self.random.u32(0..40) == 0;
            // The keys of a topic are a scope each, and so is everything that has none.
            self.publish_one(topic, (key < 4).then_some(key), bad);
        }
        if self.random.u32(0..40) == 0 {
            let foreign = Message::new("no envelope");
            self.hopeless.insert(foreign.id().to_string());
            self.envelopes.insert(foreign.id().to_string(), String::new());
            self.source.push(foreign);
        }
    }

    fn publish_one(&mut self, topic: &str, key: Option<u64>, bad: bool) {
        let id = format!("{:05}", self.envelopes.len());
        let mut message = Message::with_id(id.clone(), "x");
        if let Some(key) = key {
            message = message.with_key(format!("k{key}"));
        }
        let envelope = Envelope::new(topic, message).wrap();
        if bad {
            let kind = if self.random.bool() { PublishErrorKind::Message } else { PublishErrorKind::Refused };
            self.destination.refuse(id.clone(), kind);
            self.hopeless.insert(envelope.id().to_string());
        }
        self.envelopes.insert(envelope.id().to_string(), id);
        self.source.push(ScriptedDelivery::new(envelope).scope(key.unwrap_or(4)));
    }

    /// How many of the messages that were published in the storm, and later, are not done with.
    fn unsettled(&self) -> usize {
        let done = |(id, outcome): (_, Outcome)| {
            matches!(outcome, Outcome::Ack | Outcome::Reject { .. }).then_some(id)
        };
        let done: BTreeSet<_> = self.source.outcomes().into_iter().filter_map(done).collect();
        self.envelopes.len() - done.len()
    }

    fn check(&self) {
        let seed = self.seed;
        let rejected = |(id, outcome): (watermill_core::MessageId, Outcome)| {
            matches!(outcome, Outcome::Reject { .. }).then(|| id.to_string())
        };
        let rejected: BTreeSet<_> = self.source.outcomes().into_iter().filter_map(rejected).collect();
        assert_eq!(
            rejected, self.hopeless,
            "seed {seed}: what is hopeless is dead-lettered, and nothing else"
        );

        let arrived = self.destination.arrived();
        let mut first = BTreeMap::<_, Vec<String>>::new();
        let mut seen = BTreeSet::new();
        for (topic, message) in &arrived {
            let id = message.id().to_string();
            if seen.insert(id.clone()) {
                first.entry((topic.clone(), message.key().cloned())).or_default().push(id);
            }
        }
        let expected: BTreeSet<_> = self
            .envelopes
            .iter()
            .filter(|(envelope, _)| !self.hopeless.contains(*envelope))
            .map(|(_, id)| id.clone())
            .collect();
        assert_eq!(seen, expected, "seed {seed}: nothing is lost and nothing is invented");
        for ((topic, key), ids) in first.iter().filter(|((_, key), _)| key.is_some()) {
            assert!(ids.is_sorted(), "seed {seed}: {topic} {key:?}: {ids:?}");
        }
        let duplicates = arrived.len() - seen.len();
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
