//! [`MemorySubscriber`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use async_trait::async_trait;

use super::{BACKEND, broker::Shared, error, settle::Place, topic::Topic};
use crate::{
    Subscriber, Subscription,
    backend::Registry,
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
    open: Arc<Registry<Place>>,
    prepared: Arc<Prepared>,
}

/// Groups without a name that `initialize` made, each for the next subscription to its topic. They go with
/// the subscriber, which its subscriptions outlive.
struct Prepared {
    broker: Arc<Shared>,
    groups: Mutex<HashMap<String, (Arc<Topic>, u64)>>,
}

impl MemorySubscriber {
    pub(super) fn new(broker: Arc<Shared>, group: Option<Arc<str>>) -> Self {
        let prepared = Prepared { broker: broker.clone(), groups: Mutex::default() };
        Self { broker, group, open: Arc::default(), prepared: Arc::new(prepared) }
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
        if self.group.as_deref() == Some("") {
            return Err(error::empty_group(topic));
        }
        self.open.check(topic)
    }
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.check(topic)?;
        let (topic, reader) = match self.prepared.lock().remove(topic) {
            Some((topic, group)) => {
                let reader = self.broker.join(&topic, group);
                (topic, reader)
            }
            None => self.broker.with_topic(topic, |topic| {
                let group = topic.open_group(self.group.as_ref());
                (topic.clone(), self.broker.join(topic, group))
            }),
        };
        let origin = Origin::builder(BACKEND, &*topic.name).group(self.group.as_deref());
        let (broker, group) = (self.broker.clone(), self.group.clone());
        let place = Place { broker, topic, reader, group, left: AtomicBool::new(false) };
        self.open.open(origin, Arc::new(place)).map(|(subscription, _)| subscription)
    }

    /// Creates the group. Without a name, it creates the group of the next subscription that this
    /// subscriber makes to the topic.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        // Locked before the registry is asked, so that `close` either refuses this or finds it.
        let mut prepared = self.prepared.lock();
        self.check(topic)?;
        if !prepared.contains_key(topic) {
            let (found, group) =
                self.broker.with_topic(topic, |topic| (topic.clone(), topic.open_group(self.group.as_ref())));
            if self.group.is_none() {
                prepared.insert(topic.to_owned(), (found, group));
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
        let closed = self.open.close().await;
        self.prepared.release();
        closed
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .groups(true)
            .ordering(Ordering::Total)
            .attempts(true)
            .nack_delay(true)
    }
}

impl Prepared {
    fn release(&self) {
        let groups = std::mem::take(&mut *self.lock());
        for (topic, group) in groups.into_values() {
            topic.close_group(group);
            self.broker.forget_if_dead(&topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Arc<Topic>, u64)>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for MemorySubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubscriber").field("group", &self.group).finish_non_exhaustive()
    }
}
