//! A destination of transactions, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::sleep;
use watermill_core::{
    MemoryBroker, Message, Publisher as _,
    error::{PublishError, PublishErrorKind},
    fenced::{Commit, FencedPublisher, Outgoing, Term},
};
use watermill_forwarder::{Envelope, FencedForwarder, ForwarderConfig};

pub(crate) const NAME: &str = "relay";

/// How long a commit takes.
pub(crate) const COMMIT: Duration = Duration::from_millis(3);

#[derive(Clone, Default)]
pub(crate) struct Destination(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) published: Vec<(String, Message)>,
    pub(crate) checkpoint: Option<Bytes>,
    /// What is refused for good: ids, and topics that are missing.
    pub(crate) bad: BTreeSet<String>,
    pub(crate) missing: BTreeSet<String>,
    /// How many commits end, if not all do.
    pub(crate) hangs_after: Option<u64>,
    /// How many messages a commit may have, if not any number: one of more does not end.
    pub(crate) at_most: Option<usize>,
    /// The most bytes of messages that a commit had.
    pub(crate) largest: usize,
    /// What goes wrong by chance, of each of the ways.
    pub(crate) chance: f64,
    pub(crate) random: Option<fastrand::Rng>,
    terms: u64,
    /// How many commits are on their way, and how many transactions were sent meanwhile.
    committing: usize,
    pub(crate) sent_meanwhile: usize,
    /// After how many commits one fails, once.
    pub(crate) commit_fails_after: Option<u64>,
    /// Whether it says which message it is that it refuses.
    pub(crate) names_the_bad: bool,
    /// How everything is refused, if it is.
    pub(crate) refuses_all: Option<PublishErrorKind>,
}

impl State {
    pub(crate) fn terms(&self) -> u64 {
        self.terms
    }
}

struct OneTerm {
    destination: Destination,
    number: u64,
    checkpoint: Option<Bytes>,
}

impl Destination {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn published(&self, topic: &str) -> Vec<String> {
        let state = self.state();
        let of = state.published.iter().filter(|(published, _)| published == topic);
        of.map(|(_, message)| message.id().to_string()).collect()
    }

    /// The ids by topic and key, in order.
    pub(crate) fn by_key(&self) -> BTreeMap<(String, Bytes), Vec<String>> {
        let mut by_key: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (topic, message) in &self.state().published {
            let key = message.key().cloned().unwrap_or_default();
            by_key.entry((topic.clone(), key)).or_default().push(message.id().to_string());
        }
        by_key
    }

    async fn commit(&self, term: u64, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<(), PublishError> {
        self.state().committing += 1;
        sleep(COMMIT).await;
        let unavailable = self.strikes();
        {
            let mut state = self.state();
            if term != state.terms {
                return Err(PublishError::new(PublishErrorKind::Fenced, NAME));
            }
            let fails = state.commit_fails_after == Some(0);
            state.commit_fails_after = state.commit_fails_after.and_then(|left| left.checked_sub(1));
            if unavailable || fails {
                return Err(PublishError::new(PublishErrorKind::Unavailable, NAME));
            }
            for Outgoing { topic, messages } in batch {
                state.published.extend(messages.into_iter().map(|message| (topic.clone(), message)));
            }
            state.checkpoint = Some(checkpoint);
        }
        // It is done, and who has asked for it may be gone, or does not hear of it.
        sleep(COMMIT).await;
        if self.strikes() {
            return Err(PublishError::new(PublishErrorKind::Timeout, NAME));
        }
        Ok(())
    }

    fn strikes(&self) -> bool {
        let mut state = self.state();
        let chance = state.chance;
        state.random.as_mut().is_some_and(|random| random.f64() < chance)
    }
}

#[async_trait]
impl FencedPublisher for Destination {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        assert_eq!(name, NAME);
        sleep(COMMIT).await;
        let mut state = self.state();
        state.terms += 1;
        let (number, checkpoint) = (state.terms, state.checkpoint.clone());
        drop(state);
        if self.strikes() {
            return Err(PublishError::new(PublishErrorKind::Unavailable, name));
        }
        Ok(Box::new(OneTerm { destination: self.clone(), number, checkpoint }))
    }

    fn backend(&self) -> &'static str {
        "fake"
    }
}

#[async_trait]
impl Term for OneTerm {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref()
    }

    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        sleep(COMMIT).await;
        let hangs = {
            let mut state = self.destination.state();
            state.sent_meanwhile += usize::from(state.committing > 0);
            let messages = || batch.iter().flat_map(|outgoing| &outgoing.messages);
            state.largest = state.largest.max(messages().map(|message| message.payload().len()).sum());
            let is_too_much = state.at_most.is_some_and(|at_most| messages().count() > at_most);
            is_too_much
                || match &mut state.hangs_after {
                    Some(0) => true,
                    Some(left) => {
                        *left -= 1;
                        false
                    }
                    None => false,
                }
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if self.destination.strikes() {
            return Err(PublishError::new(PublishErrorKind::Unavailable, NAME));
        }
        {
            let state = self.destination.state();
            if self.number != state.terms {
                return Err(PublishError::new(PublishErrorKind::Fenced, NAME));
            }
            if let Some(kind) = state.refuses_all {
                return Err(PublishError::new(kind, NAME));
            }
            let mut before = 0;
            for Outgoing { topic, messages } in &batch {
                if state.missing.contains(topic) {
                    return Err(PublishError::new(PublishErrorKind::Topic, topic));
                }
                if let Some(at) =
                    messages.iter().position(|message| state.bad.contains(message.id().as_str()))
                {
                    let error = PublishError::new(PublishErrorKind::Message, topic);
                    return Err(match state.names_the_bad {
                        true => error.with_not_accepted(vec![before + at]),
                        false => error,
                    });
                }
                before += messages.len();
            }
        }
        let (destination, number) = (self.destination.clone(), self.number);
        Ok(Commit::new(async move {
            let committed = destination.commit(number, batch, checkpoint).await;
            destination.state().committing -= 1;
            committed
        }))
    }
}

/// A source that holds messages `0000` and so on, over these topics and seven keys.
pub(crate) async fn source(topics: &[&str], count: usize) -> MemoryBroker {
    let broker = MemoryBroker::new();
    // The group is made before anything is published, and keeps what nobody has read.
    watermill_core::Subscriber::initialize(&broker.subscriber().group("relay"), "outbox")
        .await
        .expect("it is made");
    for number in 0..count {
        let message = Message::with_id(format!("{number:04}"), "x").with_key(format!("k{}", number % 7));
        let envelope = Envelope::new(topics[number % topics.len()], message).wrap();
        broker.publisher().publish("outbox", vec![envelope]).await.expect("it is accepted");
    }
    broker
}

pub(crate) fn relay(source: &MemoryBroker, destination: &Destination, batch: usize) -> FencedForwarder {
    let config = ForwarderConfig::default().topic("outbox").dead_letter_topic("dead").batch_size(batch);
    FencedForwarder::builder(source.subscriber().group("relay"), destination.clone(), NAME)
        .config(config)
        .build()
        .expect("a good configuration")
}
