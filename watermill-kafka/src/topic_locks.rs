//! [`TopicLocks`]: one queue of calls for each topic, so that calls in progress together keep their order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Queue, OwnedMutexGuard},
    time::Instant,
};

use watermill_core::backend::{Failure, Trouble};

use crate::topics;

/// How many topics are remembered that nobody is publishing to.
const REMEMBERED_MAX: usize = 10_000;

/// How often a topic is looked for that was not there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A first-come queue for each topic, before librdkafka's own.
#[derive(Default)]
pub(crate) struct TopicLocks(Mutex<HashMap<Box<str>, Arc<Queue<Topic>>>>);

/// What is known of a topic.
#[derive(Default)]
pub(crate) struct Topic {
    /// Whether it was made, or found, by us.
    exists: bool,
    /// Whether it was there once.
    known: bool,
    looked: Option<Instant>,
}

impl Topic {
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// It was looked for, or made.
    pub(crate) fn found(&mut self, exists: bool) {
        self.exists = exists;
        self.known |= exists;
    }

    /// Whether it is time to look for it. Not at every call: brokers that are away take their time to say nothing.
    pub(crate) fn look(&mut self) -> bool {
        let now = Instant::now();
        let due = !self.exists && self.looked.is_none_or(|looked| looked + LOOK_INTERVAL <= now);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

impl TopicLocks {
    /// Waits for the calls to this topic that came before.
    ///
    /// # Cancel safety
    ///
    /// The place in the queue is taken with the first poll and given up when dropped.
    pub(crate) async fn lock(&self, topic: &str) -> OwnedMutexGuard<Topic> {
        self.queue(topic).lock_owned().await
    }

    /// What it means that brokers do not know the topic: they say so of one whose leader is on its way as well, and of
    /// every topic while they start. One that was there once is away for now. In any case it is looked for again.
    pub(crate) async fn unknown(&self, topic: &str, failure: Failure) -> Failure {
        let mut topic_lock = self.lock(topic).await;
        (topic_lock.exists, topic_lock.looked) = (false, None);
        if topic_lock.known {
            let detail = format!("the topic {topic:?} was there, and brokers do not know it now");
            failure.with_trouble(Trouble::Unavailable).explained(detail)
        } else {
            failure.explained(topics::missing_detail(topic))
        }
    }

    /// The same, if nobody is before us.
    pub(crate) fn try_lock(&self, topic: &str) -> Option<OwnedMutexGuard<Topic>> {
        self.queue(topic).try_lock_owned().ok()
    }

    fn queue(&self, topic: &str) -> Arc<Queue<Topic>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(topic) {
            return queue.clone();
        }
        if queues.len() >= REMEMBERED_MAX {
            // A queue with somebody in it must stay the only one.
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        queues.entry(topic.into()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn calls_to_a_topic_go_one_after_another_and_those_to_others_do_not_wait() {
        let topic_locks = TopicLocks::default();
        let first = topic_locks.lock("a").await;
        let mut second = Box::pin(topic_locks.lock("a"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(topic_locks.lock("b").now_or_never().is_some());
        let mut third = Box::pin(topic_locks.lock("a"));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "it has overtaken the second");
        drop(second.await);
        drop(third.await);
    }

    #[tokio::test]
    async fn a_topic_that_was_there_once_is_away_and_one_that_was_not_is_missing() {
        let topic_locks = TopicLocks::default();
        let unknown = || Failure::because(Trouble::Topic, "unknown");
        assert_eq!(topic_locks.unknown("a", unknown()).await.trouble(), Trouble::Topic);
        topic_locks.lock("a").await.found(true);
        assert_eq!(topic_locks.unknown("a", unknown()).await.trouble(), Trouble::Unavailable);
        assert!(topic_locks.lock("a").await.look(), "it is looked for at once");
        topic_locks.lock("a").await.found(false);
        assert_eq!(topic_locks.unknown("a", unknown()).await.trouble(), Trouble::Unavailable);
    }

    #[tokio::test]
    async fn topics_beyond_the_bound_are_forgotten_but_for_those_in_use() {
        let topic_locks = TopicLocks::default();
        let mut held = topic_locks.lock("held").await;
        held.found(true);
        for number in 0..=REMEMBERED_MAX {
            drop(topic_locks.lock(&number.to_string()).await);
        }
        assert!(topic_locks.0.lock().unwrap().len() <= REMEMBERED_MAX);
        drop(held);
        assert!(topic_locks.lock("held").await.exists());
    }
}
