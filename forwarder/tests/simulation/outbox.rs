//! [`Outbox`]: the source, and what was published to it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use watermill_core::{Message, delivery::Outcome, error::PublishErrorKind};
use watermill_forwarder::Envelope;
use watermill_testkit::{ScriptedDelivery, ScriptedSubscriber};

/// The destination's topics.
pub(crate) const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A source, and who has written what to it.
pub(crate) struct Outbox {
    pub(crate) random: Rng,
    pub(crate) source: ScriptedSubscriber,
    /// Whether some messages are refused for what they are.
    with_bad: bool,
    /// Whether the keys of a topic, and what has none, are a scope each; or all is one.
    with_scopes: bool,
    /// What was published: the ids of the envelopes, and of what is in them.
    envelopes: BTreeMap<String, String>,
    /// What may be dead-lettered: the ids of envelopes.
    hopeless: BTreeSet<String>,
}

/// A message that the destination is to refuse, and how.
pub(crate) type Bad = (String, PublishErrorKind);

impl Outbox {
    pub(crate) fn new(random: Rng, source: ScriptedSubscriber, with_bad: bool, with_scopes: bool) -> Self {
        Self { random, source, with_bad, with_scopes, envelopes: BTreeMap::new(), hopeless: BTreeSet::new() }
    }

    /// Publishes a few messages, now and then one that is hopeless.
    pub(crate) fn publish(&mut self, refuse: impl Fn(Bad)) {
        for _ in 0..self.random.usize(1..6) {
            let topic = TOPICS[self.random.usize(0..TOPICS.len())];
            let key = self.random.u64(0..5);
            let bad = self.with_bad && self.random.u32(0..40) == 0;
            let bad = self.publish_one(topic, (key < 4).then_some(key), bad);
            bad.into_iter().for_each(&refuse);
        }
        if self.random.u32(0..40) == 0 {
            let foreign = Message::new("no envelope");
            let id = foreign.id().to_string();
            self.hopeless.insert(id.clone());
            self.push(foreign, 0);
            self.envelopes.insert(id, String::new());
        }
    }

    /// Business goes on, which tells a message that is refused from a destination that refuses.
    pub(crate) fn go_on(&mut self) {
        for topic in TOPICS {
            self.publish_one(topic, None, false);
        }
    }

    fn publish_one(&mut self, topic: &str, key: Option<u64>, bad: bool) -> Option<Bad> {
        let id = format!("{:05}", self.envelopes.len());
        let mut message = Message::with_id(id.clone(), "x");
        if let Some(key) = key {
            message = message.with_key(format!("k{key}"));
        }
        let envelope = Envelope::new(topic, message).wrap();
        let envelope_id = envelope.id().to_string();
        self.push(envelope, key.unwrap_or(4));
        self.envelopes.insert(envelope_id.clone(), id.clone());
        bad.then(|| {
            self.hopeless.insert(envelope_id);
            let kind = if self.random.bool() { PublishErrorKind::Message } else { PublishErrorKind::Refused };
            (id, kind)
        })
    }

    fn push(&self, envelope: Message, scope: u64) {
        let partition = if self.with_scopes { i32::try_from(scope).expect("a small number") } else { 0 };
        let offset = i64::try_from(self.envelopes.len()).expect("a small number");
        self.source.push(ScriptedDelivery::new(envelope).partition(partition).offset(offset));
    }

    /// How many of the messages that were published are not done with.
    pub(crate) fn unsettled(&self) -> usize {
        let done = |(id, outcome): (_, Outcome)| {
            matches!(outcome, Outcome::Ack | Outcome::Reject { .. }).then_some(id)
        };
        let done: BTreeSet<_> = self.source.outcomes().into_iter().filter_map(done).collect();
        self.envelopes.len() - done.len()
    }

    /// The envelopes that the source keeps as dead letters.
    pub(crate) fn rejected(&self) -> BTreeSet<String> {
        let rejected = |(id, outcome): (watermill_core::MessageId, Outcome)| {
            matches!(outcome, Outcome::Reject { .. }).then(|| id.to_string())
        };
        self.source.outcomes().into_iter().filter_map(rejected).collect()
    }

    /// Checks what was dead-lettered, and what has arrived, in order and perhaps more than once. Returns how many
    /// were duplicates.
    pub(crate) fn check(&self, seed: u64, dead: &BTreeSet<String>, arrived: &[(String, Message)]) -> usize {
        assert_eq!(*dead, self.hopeless, "seed {seed}: what is hopeless is dead-lettered, and nothing else");
        let mut first = BTreeMap::<_, Vec<String>>::new();
        let mut seen = BTreeSet::new();
        for (topic, message) in arrived {
            let id = message.id().to_string();
            if seen.insert(id.clone()) {
                first.entry((topic.clone(), message.key().cloned())).or_default().push(id);
            }
        }
        let expected = self.envelopes.iter().filter(|(envelope, _)| !self.hopeless.contains(*envelope));
        let expected: BTreeSet<_> = expected.map(|(_, id)| id.clone()).collect();
        assert_eq!(seen, expected, "seed {seed}: nothing is lost and nothing is invented");
        for ((topic, key), ids) in first.iter().filter(|((_, key), _)| key.is_some()) {
            assert!(ids.is_sorted(), "seed {seed}: {topic} {key:?}: {ids:?}");
        }
        arrived.len() - seen.len()
    }
}
