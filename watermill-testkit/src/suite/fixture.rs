//! What every test begins with: a connection, a topic and a group of its own.

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt;
use tokio::{task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription, Window,
    error::SubscribeError,
    subscriber::{DeliveryGuarantee, Ordering, SubscriberCapabilities},
};

use super::{
    obligation::{QUIET, broken, exactly, ok, quiet, within},
    received::Received,
};
use crate::{Backend, Collector, Connection, Lack, names::unique, patience, wait::Watched};

pub(super) struct Fixture {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) connection: Connection,
    pub(super) topic: String,
    group: String,
    /// Where nothing waits for whoever subscribes later: the subscription that the test asks for first.
    early: Mutex<Option<Subscription>>,
}

impl Fixture {
    /// Connects, and sees to it that nothing published from now on is missed by the test's group.
    pub(super) async fn new(backend: &Arc<dyn Backend>) -> Self {
        let fixture = Self::bare(backend).await;
        initialize(&fixture.subscriber(), &fixture.topic).await;
        if fixture.forgets() {
            let early = subscribe(&fixture.subscriber(), &fixture.topic).await;
            *fixture.early.lock().unwrap_or_else(PoisonError::into_inner) = Some(early);
        }
        fixture
    }

    /// Connects only.
    pub(super) async fn bare(backend: &Arc<dyn Backend>) -> Self {
        let connection = connect(backend).await;
        let (topic, group) = (backend.topic(&unique("topic")), unique("group"));
        Self { backend: backend.clone(), connection, topic, group, early: Mutex::default() }
    }

    pub(super) async fn connect(&self) -> Connection {
        connect(&self.backend).await
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

    pub(super) fn capabilities(&self) -> SubscriberCapabilities {
        subscriber(&self.connection).capabilities()
    }

    pub(super) fn ordering(&self) -> Ordering {
        self.capabilities().ordering
    }

    /// Whether any order is kept.
    pub(super) fn is_ordered(&self) -> bool {
        self.ordering() != Ordering::None
    }

    /// Whether what nobody has subscribed to is gone.
    pub(super) fn forgets(&self) -> bool {
        self.capabilities().delivery == DeliveryGuarantee::AtMostOnce
    }

    pub(super) fn publisher(&self) -> Arc<dyn Publisher> {
        self.connection.publisher.clone()
    }

    /// The subscriber in the group of the test.
    pub(super) fn subscriber(&self) -> Arc<dyn Subscriber> {
        self.subscriber_of(&self.connection)
    }

    pub(super) fn subscriber_of(&self, connection: &Connection) -> Arc<dyn Subscriber> {
        if self.capabilities().groups { in_group(connection, &self.group) } else { subscriber(connection) }
    }

    pub(super) async fn subscribe(&self) -> Subscription {
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        match early {
            Some(early) => early,
            None => subscribe(&self.subscriber(), &self.topic).await,
        }
    }

    /// Publishes in one call.
    pub(super) async fn publish(&self, messages: &[Message]) {
        publish(&self.publisher(), &self.topic, messages).await;
    }

    /// Subscribes once more in the group and receives what is left: exactly these.
    pub(super) async fn expect_left(&self, obligation: &str, expected: &[Message]) {
        let mut subscription = self.subscribe().await;
        let collector = take(&mut subscription, expected.len()).await;
        quiet(obligation, &mut subscription).await;
        close(subscription).await;
        exactly(obligation, &collector, expected, self.ordering());
    }
}

/// Consumers of one group that ack whatever comes, each one its own task.
#[derive(Default)]
pub(super) struct Consumers {
    seen: Arc<Watched<Collector>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Consumers {
    pub(super) async fn start(subscriber: &Arc<dyn Subscriber>, topic: &str, consumers: usize) -> Self {
        let mut started = Self::default();
        started.add(subscriber, topic, consumers).await;
        started
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
        while let Some(ended) = within("S7: consumers stop", self.tasks.join_next()).await {
            ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
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
        let delivery = delivered(next);
        seen.change(|seen| seen.record(&delivery));
        delivery.ack();
    }
    close(subscription).await;
}

pub(super) async fn connect(backend: &Arc<dyn Backend>) -> Connection {
    let mut connection = within("P1, S1: connecting ends", backend.connect()).await;
    if connection.subscriber.is_none() {
        connection.subscriber = Some(Arc::new(Received(backend.clone())));
    }
    connection
}

pub(super) fn subscriber(connection: &Connection) -> Arc<dyn Subscriber> {
    connection.subscriber.clone().unwrap_or_else(|| broken("S1: a backend has a subscriber", "it has none"))
}

pub(super) fn in_group(connection: &Connection, group: &str) -> Arc<dyn Subscriber> {
    let subscriber = subscriber(connection).in_group(group);
    subscriber.unwrap_or_else(|error| broken("S1: a backend with groups makes them", error))
}

pub(super) async fn initialize(subscriber: &Arc<dyn Subscriber>, topic: &str) {
    ok("S1: what a subscription needs can be initialized", subscriber.initialize(topic)).await;
}

pub(super) async fn subscribe(subscriber: &Arc<dyn Subscriber>, topic: &str) -> Subscription {
    ok("S1: a topic can be subscribed to", subscriber.subscribe(topic)).await
}

pub(super) async fn publish(publisher: &Arc<dyn Publisher>, topic: &str, messages: &[Message]) {
    ok("P2: a valid call is accepted", publisher.publish(topic, messages.to_vec())).await;
}

pub(super) async fn close(subscription: Subscription) {
    ok("S7: a subscription closes, with every settlement recorded", subscription.close()).await;
}

/// The next delivery.
pub(super) async fn next(subscription: &mut Subscription) -> Delivery {
    let next = within("S1: a message that was published or nacked is delivered", subscription.next()).await;
    delivered(next)
}

/// A stream that runs has neither ended nor met an error.
pub(super) fn delivered(next: Option<Result<Delivery, SubscribeError>>) -> Delivery {
    match next {
        Some(Ok(delivery)) => delivery,
        Some(Err(error)) => broken("S5: without trouble the stream has no error", error),
        None => broken("S5: the stream goes on", "it ended"),
    }
}

/// Receives and acks `count` deliveries. Fewer are no failure here: what came says more when it is
/// compared with what should have come.
pub(super) async fn take(subscription: &mut Subscription, count: usize) -> Collector {
    let mut collector = Collector::new();
    for _ in 0..count {
        let Ok(next) = time::timeout(patience(), subscription.next()).await else { break };
        let delivery = delivered(next);
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

/// Keeps what comes, until nothing comes for a while.
pub(super) async fn hold_all(subscription: &mut Subscription) -> Vec<Delivery> {
    let mut held = vec![next(subscription).await];
    while let Ok(next) = time::timeout(QUIET, subscription.next()).await {
        held.push(delivered(next));
    }
    held
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
