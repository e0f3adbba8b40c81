//! [`PubSubPublisher`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex as BlockingMutex, PoisonError},
};

use async_trait::async_trait;
use google_cloud_pubsub::{client::BasePublisher, model::Message as Native};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Trouble, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, PubSubPublisherConfig, clients,
    config::check_name,
    error, limits, marshaler,
    outbox::{NotAccepted, Outbox, Permits},
    topics::{self, Topics},
};

/// Publishes to the topics of a project, in order within each ordering key.
///
/// A call hands all its messages to Google's client and awaits them together, so that requests are filled,
/// by calls in progress at once too; those keep their order within each key. A message that was not accepted
/// is named by its position, and nothing behind it of its ordering key is accepted until every call that
/// was on its way with that key has ended. Clones are the same publisher: closing one closes all.
///
/// # Cancel safety
///
/// The messages that were handed over before a `publish` future was dropped are published.
#[derive(Clone)]
pub struct PubSubPublisher(Arc<Shared>);

struct Shared {
    config: PubSubPublisherConfig,
    client: BasePublisher,
    topics: Topics,
    /// One for each topic. Whoever has it locked is the next in order.
    outboxes: BlockingMutex<HashMap<String, Arc<Mutex<Outbox>>>>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    calls: Calls,
}

impl PubSubPublisher {
    /// A publisher. It finds its credentials here, and connects with the first message.
    ///
    /// To be called on the runtime that it is used on.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`PubSubPublisherConfig::validate`], and for credentials that cannot be found.
    pub async fn new(config: PubSubPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = clients::publisher(&config.access, config.delivery_timeout, config.retry).await?;
        Ok(Self(Arc::new(Shared {
            client,
            topics: Topics::new(config.access.clone(), config.request_timeout, config.retry),
            outboxes: BlockingMutex::default(),
            messages: Arc::new(Semaphore::new(config.in_flight_messages)),
            bytes: Arc::new(Semaphore::new(config.in_flight_bytes)),
            calls: Calls::default(),
            config,
        })))
    }
}

impl Shared {
    /// The messages as Pub/Sub takes them, unless the call cannot be made at all.
    fn prepare(&self, topic: &str, messages: &[Message]) -> Result<Vec<Native>, PublishError> {
        check_name(topic).map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        refuse_delays(topic, messages)?;
        let write = |message| marshaler::write(topic, message, &self.config.ordering_keys);
        let natives: Result<_, _> = messages.iter().map(write).collect();
        natives.map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))
    }

    fn outbox(&self, topic: &str) -> Arc<Mutex<Outbox>> {
        let mut outboxes = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outbox) = outboxes.get(topic) {
            return outbox.clone();
        }
        let outbox = Outbox::new(self.config.access.topic(topic), !self.config.create_topics);
        outboxes.entry(topic.to_owned()).or_insert(Arc::new(Mutex::new(outbox))).clone()
    }

    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        let natives = self.prepare(topic, &messages)?;
        // What is on its way needs not be in memory twice.
        drop(messages);
        let (of, outbox) = (natives.len(), self.outbox(topic));
        let on_its_way = {
            let mut outbox = outbox.lock().await;
            if !outbox.is_there {
                self.topics.create(topic).await.map_err(|failure| failure.publishing(topic))?;
                outbox.is_there = true;
            }
            outbox.ready(&self.client, &self.config).await;
            let bytes = natives.iter().map(limits::bytes).sum();
            let permits = Permits::acquire(
                (&self.messages, self.config.in_flight_messages),
                (&self.bytes, self.config.in_flight_bytes),
                (of, bytes),
                call,
            );
            let permits = permits.await.ok_or_else(|| PublishError::closed(topic))?;
            outbox.send(natives, permits).ok_or_else(|| PublishError::closed(topic))?
        };
        match on_its_way.await {
            Ok(()) => Ok(()),
            Err(not_accepted) => Err(self.failure(topic, of, &outbox, not_accepted).await),
        }
    }

    async fn failure(
        &self,
        topic: &str,
        of: usize,
        outbox: &Mutex<Outbox>,
        not_accepted: NotAccepted,
    ) -> PublishError {
        let mut failure = error::of_publish(not_accepted.why);
        if failure.trouble() == Trouble::Topic && self.config.create_topics {
            // It was deleted since it was made.
            outbox.lock().await.is_there = false;
            failure = failure
                .with_trouble(Trouble::Unavailable)
                .explained("the topic is gone; the next call creates it again");
        }
        let error = failure.publishing(topic);
        if not_accepted.positions.len() == of {
            error
        } else {
            error.with_not_accepted(not_accepted.positions)
        }
    }
}

#[async_trait]
impl Publisher for PubSubPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        self.0.publish(topic, messages).await
    }

    /// Waits for the calls in progress. Each ends within
    /// [`delivery_timeout`](PubSubPublisherConfig::delivery_timeout) of being sent; a second time as long is
    /// left to those that wait for room.
    async fn close(&self) -> Result<(), PublishError> {
        let patience = (self.0.config.delivery_timeout + self.0.config.request_timeout) * 2;
        if timeout(patience, self.0.calls.close()).await.is_err() {
            return Err(topics::timed_out().explained("not everything was sent").publishing(""));
        }
        self.0.outboxes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl fmt::Debug for PubSubPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubPublisher").field("config", &self.0.config).finish_non_exhaustive()
    }
}
