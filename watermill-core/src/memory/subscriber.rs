//! [`MemorySubscriber`] and the stream of its subscriptions.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use futures::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    BACKEND,
    broker::Shared,
    error,
    group::Next,
    settle::{Control, MemorySettle, Place},
    topic::{Reader, Topic},
};
use crate::{
    Delivery, Subscriber, Subscription,
    delivery::Origin,
    error::SubscribeError,
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// Subscribes to the topics of a [`MemoryBroker`](super::MemoryBroker).
///
/// Without a group, each subscription is a group of its own: it receives everything published while
/// it lives. With a [`group`](Self::group), subscriptions share the group's queue. Clones are the
/// same subscriber: closing one closes all.
#[derive(Clone)]
pub struct MemorySubscriber {
    broker: Arc<Shared>,
    group: Option<Arc<str>>,
    registry: Arc<Registry>,
}

/// What one subscriber has begun and not ended.
pub(super) struct Registry {
    broker: Arc<Shared>,
    state: Mutex<Registered>,
}

#[derive(Default)]
struct Registered {
    closed: bool,
    /// By member id.
    subscriptions: HashMap<u64, Weak<Place>>,
    /// Groups without a name that `initialize` made, each for the next subscription to its topic.
    prepared: HashMap<String, (Arc<Topic>, u64)>,
}

/// How many deliveries in a row a consumer gets before others have their turn. Counted here, because
/// the runtime's own budget is kept with the thread and costs a tenth of a delivery.
const YIELD_AFTER: u32 = 128;

/// The stream of a subscription. It fetches nothing ahead: what it has not returned is in the group.
struct Deliveries {
    place: Arc<Place>,
    origin: Origin,
    /// How many deliveries were returned since the task had to wait last.
    in_a_row: u32,
    /// Only made when a delay is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl MemorySubscriber {
    pub(super) fn new(broker: Arc<Shared>, group: Option<Arc<str>>) -> Self {
        let registry = Registry { broker: broker.clone(), state: Mutex::default() };
        Self { broker, group, registry: Arc::new(registry) }
    }

    /// A new subscriber for a consumer group: its subscriptions, and those of every other subscriber
    /// for this group, share the messages. The group begins with the first subscription or
    /// [`initialize`](Subscriber::initialize); its queue stays when its members leave, for as long
    /// as the broker lives. It is independent of this subscriber: closing one does not close the
    /// other.
    ///
    /// The empty name is refused by `subscribe` and `initialize`.
    #[must_use]
    pub fn group(&self, name: &str) -> Self {
        Self::new(self.broker.clone(), Some(name.into()))
    }

    fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        if topic.is_empty() {
            return Err(error::subscribe_to_empty_topic());
        }
        if self.group.as_deref() == Some("") {
            return Err(error::empty_group(topic));
        }
        Ok(())
    }
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.check(topic)?;
        // Locked to the end, so that `close` either refuses this or finds it.
        let mut registered = self.registry.open(topic)?;
        let (topic, reader) = match registered.prepared.remove(topic) {
            Some((topic, group)) => {
                let reader = self.broker.join(&topic, group);
                (topic, reader)
            }
            None => self.broker.with_topic(topic, |topic| {
                let group = topic.open_group(self.group.as_ref());
                (topic.clone(), self.broker.join(topic, group))
            }),
        };
        let registry = Arc::downgrade(&self.registry);
        let (broker, group) = (self.broker.clone(), self.group.clone());
        let place = Arc::new(Place { broker, topic, reader, group, registry, origin: Mutex::default() });
        registered.subscriptions.insert(reader.member, Arc::downgrade(&place));
        let origin = Origin::builder(BACKEND, &*place.topic.name)
            .group(self.group.as_deref())
            .build(MemorySettle(place.clone()));
        *place.origin.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin.clone());
        let control = Control(place.clone());
        Ok(Subscription::new(Deliveries { place, origin, in_a_row: 0, timer: None }, control))
    }

    /// Creates the group. Without a name, it creates the group of the next subscription that this
    /// subscriber makes to the topic.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.check(topic)?;
        let mut registered = self.registry.open(topic)?;
        if !registered.prepared.contains_key(topic) {
            let (found, group) =
                self.broker.with_topic(topic, |topic| (topic.clone(), topic.open_group(self.group.as_ref())));
            if self.group.is_none() {
                registered.prepared.insert(topic.to_owned(), (found, group));
            }
        }
        Ok(())
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        if group.is_empty() {
            return Err(error::empty_group(""));
        }
        Ok(Arc::new(self.group(group)))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.registry.close();
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        // The places are asked without the registry's lock, which is taken after a topic's when one ends.
        let places: Vec<_> = self.registry.lock().subscriptions.values().filter_map(Weak::upgrade).collect();
        places.iter().map(|place| place.status()).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .groups(true)
            .ordering(Ordering::Total)
            .attempts(true)
            .nack_delay(true)
    }
}

impl Registry {
    pub(super) fn forget(&self, reader: Reader) {
        self.lock().subscriptions.remove(&reader.member);
    }

    fn open(&self, topic: &str) -> Result<MutexGuard<'_, Registered>, SubscribeError> {
        let registered = self.lock();
        if registered.closed { Err(SubscribeError::closed(topic)) } else { Ok(registered) }
    }

    fn close(&self) {
        let closed = Registered { closed: true, ..Registered::default() };
        let registered = std::mem::replace(&mut *self.lock(), closed);
        for place in registered.subscriptions.values().filter_map(Weak::upgrade) {
            place.end();
        }
        for (topic, group) in registered.prepared.into_values() {
            topic.close_group(group);
            self.broker.forget_if_dead(&topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    /// Subscriptions outlive the subscriber that made them; groups prepared for none do not.
    fn drop(&mut self) {
        self.lock().subscriptions.clear();
        self.close();
    }
}

impl Deliveries {
    /// Ready when `until` has come.
    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // A consumer that is always ready lets other tasks run, above all one that nacks at once.
        if this.in_a_row == YIELD_AFTER {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match this.place.topic.next(this.place.reader, cx.waker()) {
                Next::Handed(handed) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Ok(handed.into_delivery(&this.origin))));
                }
                Next::Ended => return Poll::Ready(None),
                Next::Sleep(until) => {
                    this.in_a_row = 0;
                    let Some(until) = until else { return Poll::Pending };
                    ready!(this.poll_timer(until, cx));
                }
            }
        }
    }
}

impl Drop for Deliveries {
    /// Nobody reads any more. Deliveries that are out can be settled until the control goes.
    fn drop(&mut self) {
        self.place.topic.stop_intake(self.place.reader);
    }
}

impl fmt::Debug for MemorySubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubscriber").field("group", &self.group).finish_non_exhaustive()
    }
}
