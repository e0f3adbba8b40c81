//! [`MemoryBroker`]: the topics.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    History, MemoryConfig, MemoryPublisher, MemorySubscriber,
    marshaler::{Confirm, Record},
    topic::{Offer, Reader, Topic},
};
use crate::{Message, error::ConfigError};

/// Topics in the memory of this process. Clones are the same broker; it lives for as long as any
/// clone, publisher, subscriber, subscription or delivery of it does.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) config: MemoryConfig,
    /// Locked before a topic, never after. Publishers only read it.
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    next_member: AtomicU64,
}

impl MemoryBroker {
    /// A broker with the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// A broker with the given configuration.
    ///
    /// # Errors
    ///
    /// What [`MemoryConfig::validate`] has to say.
    pub fn with_config(config: MemoryConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared { config, ..Shared::default() }) })
    }

    /// A new publisher. Closing it closes neither the broker nor any other publisher.
    pub fn publisher(&self) -> MemoryPublisher {
        MemoryPublisher::new(self.shared.clone())
    }

    /// A new subscriber, whose every subscription is a group of its own and receives everything.
    /// For a named group that shares the work, see [`MemorySubscriber::group`]. Closing it ends its
    /// own subscriptions and nothing else.
    pub fn subscriber(&self) -> MemorySubscriber {
        MemorySubscriber::new(self.shared.clone(), None)
    }

    pub(crate) fn has_history(&self) -> bool {
        self.shared.config.history != History::None
    }

    /// Looks at what is kept of a topic, and at the sequence of its next message; `None` where there is no such topic.
    pub(crate) fn history<R>(
        &self,
        topic: &str,
        look: impl FnOnce(&VecDeque<Record>, u64) -> R,
    ) -> Option<R> {
        let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.get(topic).cloned();
        drop(topics);
        topic.map(|topic| topic.history(look))
    }
}

impl Shared {
    /// Accepts messages at once and takes them, or returns the topic to wait at.
    ///
    /// `usual` has the topic that the publisher used first, and nearly always uses: comparing a name is
    /// cheaper than hashing it, and publishers of different topics share no lock.
    #[inline]
    pub(super) fn offer(
        &self,
        usual: &OnceLock<Arc<Topic>>,
        name: &str,
        messages: &mut Vec<Message>,
        confirm: Option<&Confirm>,
    ) -> Option<Arc<Topic>> {
        match usual.get() {
            Some(topic) if *topic.name == *name => match topic.offer(messages, confirm) {
                Offer::Accepted => None,
                Offer::Full => Some(topic.clone()),
                // Another topic of this name may be in use by now.
                Offer::Forgotten => self.offer_by_name(usual, name, messages, confirm),
            },
            _ => self.offer_by_name(usual, name, messages, confirm),
        }
    }

    #[inline(never)]
    fn offer_by_name(
        &self,
        usual: &OnceLock<Arc<Topic>>,
        name: &str,
        messages: &mut Vec<Message>,
        confirm: Option<&Confirm>,
    ) -> Option<Arc<Topic>> {
        while let Some(topic) = self.find(name) {
            match topic.offer(messages, confirm) {
                Offer::Accepted => {
                    let _ = usual.set(topic);
                    return None;
                }
                Offer::Full => return Some(topic),
                Offer::Forgotten => {}
            }
        }
        tracing::debug!(topic = name, messages = messages.len(), "discarded: the topic has no group");
        None
    }

    /// The topic, which is made if there is none and it would have a history.
    fn find(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Some(topic.clone());
        }
        drop(topics);
        (self.config.history != History::None).then(|| self.with_topic(name, Arc::clone))
    }

    /// Does something with a topic that is made if there is none. It cannot be forgotten meanwhile.
    pub(super) fn with_topic<R>(&self, name: &str, with: impl FnOnce(&Arc<Topic>) -> R) -> R {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains_key(name) {
            topics.insert(name.into(), Arc::new(Topic::new(name, self.config)));
        }
        with(&topics[name])
    }

    /// A reader that joins a group. Its id is never used again, so that what its deliveries settle
    /// late cannot be mistaken for another's.
    pub(super) fn join(&self, topic: &Topic, group: u64) -> Reader {
        let reader = Reader { group, member: self.next_member.fetch_add(1, Ordering::Relaxed) };
        topic.join(reader);
        reader
    }

    /// Forgets a topic that has nothing left to remember.
    pub(super) fn forget_if_dead(&self, topic: &Topic) {
        if !topic.is_dead() {
            return;
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        // Asked of the one in the map, under its lock: another of this name may be in use by now.
        if topics.get(&topic.name).is_some_and(|known| known.forget()) {
            topics.remove(&topic.name);
        }
    }

    #[cfg(test)]
    fn topics_known(&self) -> usize {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::{Publisher, Subscriber};

    #[tokio::test]
    async fn topics_that_nobody_reads_are_forgotten() {
        let broker = MemoryBroker::new();
        broker.publisher().publish("never-read", vec![Message::new("x")]).await.unwrap();
        assert_eq!(broker.shared.topics_known(), 0);

        let dropped = broker.subscriber().subscribe("a").await.unwrap();
        let closed = broker.subscriber().subscribe("b").await.unwrap();
        assert_eq!(broker.shared.topics_known(), 2);
        drop(dropped);
        closed.close().await.unwrap();
        assert_eq!(broker.shared.topics_known(), 0);
    }

    #[tokio::test]
    async fn a_publisher_finds_the_successor_of_a_forgotten_topic() {
        let broker = MemoryBroker::new();
        let publisher = broker.publisher();
        for payload in ["a", "b"] {
            let mut subscription = broker.subscriber().subscribe("t").await.unwrap();
            publisher.publish("t", vec![Message::new(payload)]).await.unwrap();
            assert_eq!(subscription.next().await.unwrap().unwrap().payload(), payload);
        }
        publisher.publish("t", vec![Message::new("discarded")]).await.unwrap();
        assert_eq!(broker.shared.topics_known(), 0);
    }

    #[tokio::test]
    async fn a_topic_with_a_named_group_is_remembered() {
        let broker = MemoryBroker::new();
        drop(broker.subscriber().group("g").subscribe("a").await.unwrap());
        assert_eq!(broker.shared.topics_known(), 1);
    }

    #[tokio::test]
    async fn a_prepared_group_goes_with_its_subscriber() {
        let broker = MemoryBroker::new();
        let subscriber = broker.subscriber();
        subscriber.initialize("a").await.unwrap();
        subscriber.initialize("b").await.unwrap();
        drop(subscriber.subscribe("b").await.unwrap());
        assert_eq!(broker.shared.topics_known(), 1);
        drop(subscriber);
        assert_eq!(broker.shared.topics_known(), 0);
    }
}
