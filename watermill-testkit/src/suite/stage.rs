//! What every test begins with: a connection, a topic and a group of its own.

use std::{
    fmt,
    future::{Future, IntoFuture},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use tokio::{task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use watermill_core::{Delivery, Message, Publisher, Subscriber, Subscription, Window, subscriber::Ordering};

use crate::{Backend, Collector, Connection, Lack, names::unique, patience, wait::Watched};

/// How long a test looks when nothing must come. The only waits that take their full time: too short
/// a look can miss a fault, and never makes a test fail that should pass.
const QUIET: Duration = Duration::from_millis(100);

pub(super) struct Stage {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) connection: Connection,
    pub(super) topic: String,
    group: String,
}

impl Stage {
    /// Connects, and sees to it that nothing published from now on is missed by the test's group.
    pub(super) async fn new(backend: &Arc<dyn Backend>) -> Self {
        let stage = Self::bare(backend).await;
        initialize(&stage.subscriber(), &stage.topic).await;
        stage
    }

    /// Connects only.
    pub(super) async fn bare(backend: &Arc<dyn Backend>) -> Self {
        let connection = within("connect", backend.connect()).await;
        let (topic, group) = (backend.topic(&unique("topic")), unique("group"));
        Self { backend: backend.clone(), connection, topic, group }
    }

    pub(super) async fn connect(&self) -> Connection {
        within("connect", self.backend.connect()).await
    }

    pub(super) fn lacks(&self, lack: Lack) -> bool {
        self.backend.lacks().contains(&lack)
    }

    /// A number of messages, smaller for a slow backend.
    pub(super) fn many(&self, messages: usize) -> usize {
        (messages / self.backend.scale().max(1)).max(100)
    }

    /// How many duplicates are allowed when `consumers` that hold one delivery each come or go.
    pub(super) fn duplicates_of(&self, consumers: usize) -> usize {
        if self.lacks(Lack::StableOwnership) { consumers } else { 0 }
    }

    pub(super) fn ordering(&self) -> Ordering {
        self.connection.subscriber.capabilities().ordering
    }

    pub(super) fn publisher(&self) -> Arc<dyn Publisher> {
        self.connection.publisher.clone()
    }

    /// The subscriber in the group of the test.
    pub(super) fn subscriber(&self) -> Arc<dyn Subscriber> {
        self.subscriber_of(&self.connection)
    }

    pub(super) fn subscriber_of(&self, connection: &Connection) -> Arc<dyn Subscriber> {
        if self.lacks(Lack::Groups) {
            return connection.subscriber.clone();
        }
        in_group(connection, &self.group)
    }

    pub(super) async fn subscribe(&self) -> Subscription {
        subscribe(&self.subscriber(), &self.topic).await
    }

    /// Publishes in one call.
    pub(super) async fn publish(&self, messages: &[Message]) {
        publish(&self.publisher(), &self.topic, messages).await;
    }

    /// Subscribes once more in the group and receives what is left: exactly these.
    pub(super) async fn expect_left(&self, expected: &[Message]) {
        let mut subscription = self.subscribe().await;
        let collector = take(&mut subscription, expected.len()).await;
        quiet(&mut subscription).await;
        close(subscription).await;
        collector.assert_exactly(expected, self.ordering());
    }
}

/// Consumers of one group that ack whatever comes, each one its own task.
#[derive(Default)]
pub(super) struct Crew {
    seen: Arc<Watched<Collector>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Crew {
    pub(super) async fn start(subscriber: &Arc<dyn Subscriber>, topic: &str, consumers: usize) -> Self {
        let mut crew = Self::default();
        crew.add(subscriber, topic, consumers).await;
        crew
    }

    pub(super) async fn add(&mut self, subscriber: &Arc<dyn Subscriber>, topic: &str, consumers: usize) {
        for _ in 0..consumers {
            let subscription = subscribe(subscriber, topic).await;
            self.tasks.spawn(consume(subscription, self.seen.clone(), self.stop.clone()));
        }
    }

    /// Waits until as many different messages were seen, stops gracefully, and returns what was seen.
    pub(super) async fn finish(mut self, messages: usize) -> Collector {
        // Progress counts, not the time since the start: a slow backend is not a failing one.
        let mut before = 0;
        loop {
            let (seen, distinct) = self.seen.read(|seen| (seen.seen().len(), seen.distinct()));
            if distinct >= messages {
                break;
            }
            let more = self.seen.until(|now| (now.seen().len() > seen + messages / 10).then_some(()));
            let arrived = self.seen.until(|now| (now.distinct() >= messages).then_some(()));
            let timeout = time::timeout(patience(), async {
                tokio::select! { () = more => {}, () = arrived => {} }
            });
            if timeout.await.is_err() && seen == before {
                break; // The caller's comparison says what is missing.
            }
            before = seen;
        }
        let seen = self.seen.read(|seen| seen.seen().len());
        // What comes twice comes late as a rule.
        let more = self.seen.until(|now| (now.seen().len() > seen).then_some(()));
        let _ = time::timeout(QUIET, more).await;
        self.stop.cancel();
        while let Some(ended) = within("the consumers stop", self.tasks.join_next()).await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
        self.seen.read(Collector::clone)
    }
}

async fn consume(mut subscription: Subscription, seen: Arc<Watched<Collector>>, stop: CancellationToken) {
    loop {
        let next = tokio::select! {
            next = subscription.next() => next,
            () = stop.cancelled() => break,
        };
        let delivery = next.expect("the stream goes on").expect("the stream has no error");
        seen.change(|seen| seen.record(&delivery));
        delivery.ack();
    }
    close(subscription).await;
}

/// Awaits within the patience, and says what it waited for when that ends.
pub(super) async fn within<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match time::timeout(patience(), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {:?} in vain: {what}", patience()),
    }
}

/// Awaits within the patience what must succeed.
pub(super) async fn ok<T, E: fmt::Debug + fmt::Display>(
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> T {
    within(what, future).await.unwrap_or_else(|error| panic!("{what}: {error} ({error:?})"))
}

pub(super) fn in_group(connection: &Connection, group: &str) -> Arc<dyn Subscriber> {
    connection.subscriber.in_group(group).unwrap_or_else(|error| panic!("in_group: {error}"))
}

pub(super) async fn initialize(subscriber: &Arc<dyn Subscriber>, topic: &str) {
    ok("initialize", subscriber.initialize(topic)).await;
}

pub(super) async fn subscribe(subscriber: &Arc<dyn Subscriber>, topic: &str) -> Subscription {
    ok("subscribe", subscriber.subscribe(topic)).await
}

pub(super) async fn publish(publisher: &Arc<dyn Publisher>, topic: &str, messages: &[Message]) {
    ok("publish", publisher.publish(topic, messages.to_vec())).await;
}

pub(super) async fn close(subscription: Subscription) {
    ok("close the subscription", subscription.close()).await;
}

/// The next delivery.
pub(super) async fn next(subscription: &mut Subscription) -> Delivery {
    let next = within("the next delivery", subscription.next()).await;
    next.expect("the stream goes on").expect("the stream has no error")
}

/// Receives and acks `count` deliveries. Fewer are no failure here: what came says more when it is
/// compared with what should have come.
pub(super) async fn take(subscription: &mut Subscription, count: usize) -> Collector {
    let mut collector = Collector::new();
    for _ in 0..count {
        let Ok(next) = time::timeout(patience(), subscription.next()).await else { break };
        let delivery = next.expect("the stream goes on").expect("the stream has no error");
        collector.record(&delivery);
        delivery.ack();
    }
    collector
}

/// Receives `count` deliveries and keeps them.
pub(super) async fn hold(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(next(subscription).await);
    }
    held
}

/// Asserts that nothing comes.
pub(super) async fn quiet(subscription: &mut Subscription) {
    if let Ok(next) = time::timeout(QUIET, subscription.next()).await {
        panic!("nothing should come, but this did: {next:?}");
    }
}

/// Asserts that the future waits.
pub(super) async fn waits<F: Future + Unpin>(what: &str, future: &mut F) {
    assert!(time::timeout(QUIET, future).await.is_err(), "{what} should wait, and did not");
}

/// A message whose payload is a JSON number, which every backend can hold.
pub(super) fn message(id: impl Into<String>) -> Message {
    let id = id.into();
    let number: u64 = id.bytes().filter(u8::is_ascii_digit).fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    Message::with_id(id, number.to_string())
}

/// Messages with the ids `0000`, `0001` and so on, all of one key: one ordering scope everywhere.
pub(super) fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|n| message(format!("{n:04}")).with_key("one")).collect()
}

/// The same over several keys, in turn.
pub(super) fn keyed(count: usize, keys: usize) -> Vec<Message> {
    (0..count).map(|n| message(format!("{n:04}")).with_key(format!("key-{}", n % keys))).collect()
}

pub(super) fn ordered(size: usize) -> Window {
    Window::ordered(size.try_into().expect("a window is not empty"))
}

pub(super) fn unordered(size: usize) -> Window {
    Window::unordered(size.try_into().expect("a window is not empty"))
}
