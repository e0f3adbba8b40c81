//! [`KafkaPublisher`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use tokio_util::task::TaskTracker;
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, ConfigError, KafkaPublisherConfig, config,
    error::{Failure, Trouble},
    gates::Gates,
    marshaler,
    producer::Producer,
    report::Call,
    topics,
};

/// Publishes to the topics of a Kafka cluster, idempotently and with the word of all in-sync replicas.
///
/// A call queues all its messages and awaits their reports together, so that calls in progress at once
/// share requests; they keep their order. A message that was not accepted is named by its position.
/// Clones are the same publisher: closing one closes all.
///
/// # Cancel safety
///
/// The messages that were queued before a `publish` future was dropped are published.
#[derive(Clone)]
pub struct KafkaPublisher(Arc<Shared>);

struct Shared {
    config: KafkaPublisherConfig,
    producer: Producer,
    gates: Gates,
    /// Closed with the publisher.
    calls: TaskTracker,
}

impl KafkaPublisher {
    /// A publisher. It connects in the background.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`], and for what librdkafka refuses.
    pub fn new(config: KafkaPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let producer = Producer::new(config.client()).map_err(config::refused_by_client)?;
        let (gates, calls) = (Gates::default(), TaskTracker::new());
        Ok(Self(Arc::new(Shared { config, producer, gates, calls })))
    }
}

impl Shared {
    /// Queues the messages behind those of earlier calls to the topic.
    async fn enqueue(&self, topic: &str, messages: &[Message]) -> Result<Arc<Call>, PublishError> {
        let mut gate = self.gates.enter(topic).await;
        match self.config.create_topics {
            Some(create) if !gate.exists => {
                let made = topics::create(self.config.client(), create, topic, self.config.request_timeout);
                made.await.map_err(|failure| failure.publishing(topic))?;
                gate.exists = true;
            }
            // It may have been made this moment, by somebody else.
            None if gate.look() => gate.exists = self.producer.has_leaders(topic).await,
            _ => {}
        }
        let call = Call::new(messages.len());
        self.producer.enqueue(&call, topic, messages).await;
        Ok(call)
    }

    async fn failure(&self, topic: &str, of: usize, failed: Vec<(usize, KafkaError)>) -> PublishError {
        let positions: Vec<usize> = failed.iter().map(|(at, _)| *at).collect();
        let (_, first) = failed.into_iter().next().expect("something has failed");
        let mut failure = Failure::of(first);
        if let Some(cause) = self.producer.replace_if_dead() {
            failure.trouble = cause;
        }
        if failure.trouble == Trouble::Topic {
            failure = failure.explained(topics::missing_detail(topic));
            // It may have been deleted since it was made.
            self.gates.enter(topic).await.exists = false;
        }
        let error = failure.publishing(topic);
        if positions.len() == of { error } else { error.with_not_accepted(positions) }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let shared = &*self.0;
        let _call = shared.calls.token();
        if shared.calls.is_closed() {
            return Err(PublishError::closed(topic));
        }
        config::check_topic(topic)
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        for message in &messages {
            marshaler::check(message, shared.config.message_bytes_max())
                .map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))?;
        }
        if messages.is_empty() {
            return Ok(());
        }
        let of = messages.len();
        let call = shared.enqueue(topic, &messages).await?;
        // librdkafka has copies: what waits for reports needs not be in memory twice.
        drop(messages);
        let failed = call.failed().await;
        if failed.is_empty() { Ok(()) } else { Err(shared.failure(topic, of, failed).await) }
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.0.calls.close();
        self.0.calls.wait().await;
        let flushed = self.0.producer.flush(self.0.config.delivery_timeout).await;
        flushed.map_err(|failure| failure.explained("not everything was sent").publishing(""))
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("config", &self.0.config)
            .field("in_flight", &self.0.producer.in_flight())
            .finish()
    }
}
