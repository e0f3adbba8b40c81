//! What the tests of the forwarder share.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Backoff, Message, Publisher,
    delivery::Outcome,
    error::{NotAccepted, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};
use watermill_forwarder::{Envelope, ForwarderBuilder, ForwarderConfig, ForwarderError, ForwarderReport};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

/// Small batches, waits of a second.
pub(crate) fn config() -> ForwarderConfig {
    ForwarderConfig::default()
        .batch_size(10)
        .backoff(Backoff::constant(Duration::from_secs(1)))
        .drain_timeout(Duration::from_secs(5))
}

/// The ids of messages, as texts.
pub(crate) fn numbers(range: Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

pub(crate) fn acked(source: &ScriptedSubscriber) -> usize {
    source.outcomes().iter().filter(|(_, outcome)| *outcome == Outcome::Ack).count()
}

/// Makes a message with this id and puts it into an envelope.
pub(crate) fn envelope(destination: &str, id: &str) -> Message {
    Envelope::new(destination, Message::with_id(id, "x")).wrap()
}

/// The same with a key.
pub(crate) fn keyed(destination: &str, key: &str, id: &str) -> Message {
    Envelope::new(destination, Message::with_id(id, "x").with_key(key.to_owned())).wrap()
}

pub(crate) fn ids<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.id().to_string()).collect()
}

/// A forwarder that runs in the background until it is stopped or killed.
pub(crate) struct Running {
    token: CancellationToken,
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
}

pub(crate) fn start(forwarder: ForwarderBuilder) -> Running {
    let forwarder = forwarder.build().expect("a good configuration");
    let token = CancellationToken::new();
    let task = tokio::spawn(forwarder.run_until(token.clone().cancelled_owned()));
    Running { token, task }
}

impl Running {
    pub(crate) fn ask_to_stop(&self) {
        self.token.cancel();
    }

    pub(crate) async fn stop(self) -> ForwarderReport {
        self.token.cancel();
        self.end().await.expect("a graceful stop")
    }

    pub(crate) async fn end(self) -> Result<ForwarderReport, ForwarderError> {
        self.task.await.expect("no panic")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// As a crash does it: the future is dropped wherever it is.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Fails calls to some topics, or calls that hold some messages, and records what the others publish.
#[derive(Clone)]
pub(crate) struct Picky {
    pub(crate) record: RecordingPublisher,
    down: Arc<Mutex<Vec<(String, PublishErrorKind)>>>,
    bad: Arc<Mutex<BTreeMap<String, PublishErrorKind>>>,
    partially: bool,
    calls: Arc<AtomicUsize>,
}

impl Picky {
    pub(crate) fn new() -> Self {
        let record = RecordingPublisher::new();
        Self { record, down: Arc::default(), bad: Arc::default(), partially: false, calls: Arc::default() }
    }

    /// Accepts what is not bad in a call, and names the rest.
    pub(crate) fn accepting_in_part(mut self) -> Self {
        self.partially = true;
        self
    }

    /// Answers later, so that the next batch waits already when a call ends.
    pub(crate) fn slowly(mut self) -> Self {
        self.record = RecordingPublisher::new().with_latency(Duration::from_millis(1));
        self
    }

    pub(crate) fn take_down(&self, topic: &str, kind: PublishErrorKind) {
        self.down.lock().unwrap().push((topic.to_owned(), kind));
    }

    pub(crate) fn bring_up(&self, topic: &str) {
        self.down.lock().unwrap().retain(|(down, _)| down != topic);
    }

    /// Refuses this message: for what it is in an atomic publisher, for now in one that accepts in part.
    pub(crate) fn refuse(&self, id: &str) {
        let kind = if self.partially { PublishErrorKind::Unavailable } else { PublishErrorKind::Message };
        self.refuse_as(id, kind);
    }

    /// Refuses calls that have this message, and says so in this way.
    pub(crate) fn refuse_as(&self, id: &str, kind: PublishErrorKind) {
        self.bad.lock().unwrap().insert(id.to_owned(), kind);
    }

    pub(crate) fn relent(&self, id: &str) {
        self.bad.lock().unwrap().remove(id);
    }

    pub(crate) fn published(&self, topic: &str) -> Vec<String> {
        ids(&self.record.published(topic))
    }

    /// How often anything was to be published.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn verdict(&self, topic: &str, messages: &[Message]) -> Result<(), PublishError> {
        if let Some((_, kind)) = self.down.lock().unwrap().iter().find(|(down, _)| down == topic) {
            return Err(PublishError::new(*kind, topic));
        }
        let bad = self.bad.lock().unwrap();
        // Later messages of the same key are not accepted either, or they would overtake it.
        let mut bad_keys = BTreeSet::new();
        let mut kind = None;
        let mut is_bad = |message: &Message| {
            let found = bad.get(message.id().as_str()).copied();
            kind = kind.or(found);
            let key = message.key().cloned();
            if found.is_some() && key.is_some() {
                bad_keys.insert(key.clone());
            }
            found.is_some() || bad_keys.contains(&key)
        };
        let positions: Vec<_> = (0..messages.len()).filter(|at| is_bad(&messages[*at])).collect();
        let Some(kind) = kind else { return Ok(()) };
        let error = PublishError::new(kind, topic);
        Err(if self.partially { error.with_not_accepted(positions) } else { error })
    }
}

#[async_trait]
impl Publisher for Picky {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let verdict = self.verdict(topic, &messages);
        match &verdict {
            Ok(()) => self.record.publish(topic, messages).await?,
            Err(error) => match error.not_accepted() {
                NotAccepted::At(positions) => {
                    let accepted = messages.into_iter().enumerate().filter(|(at, _)| !positions.contains(at));
                    self.record.publish(topic, accepted.map(|(_, message)| message).collect()).await?;
                }
                _ => tokio::task::yield_now().await,
            },
        }
        verdict
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.record.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("picky").atomic(!self.partially)
    }
}

/// Publishes to one topic by one publisher, and to all others by another.
pub(crate) struct ByTopic {
    topic: &'static str,
    this: Picky,
    others: Picky,
}

impl ByTopic {
    pub(crate) fn new(topic: &'static str, this: Picky, others: Picky) -> Self {
        Self { topic, this, others }
    }
}

#[async_trait]
impl Publisher for ByTopic {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let publisher = if topic == self.topic { &self.this } else { &self.others };
        publisher.publish(topic, messages).await
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.others.capabilities()
    }
}

/// A source that holds `count` envelopes for `destination`, with ids from 0.
pub(crate) fn source_of(destination: &str, count: usize) -> ScriptedSubscriber {
    let source = ScriptedSubscriber::new();
    for id in 0..count {
        source.push(envelope(destination, &id.to_string()));
    }
    source
}
