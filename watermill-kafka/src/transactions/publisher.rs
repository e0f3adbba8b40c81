//! [`KafkaTransactionalPublisher`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Trouble, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use super::producer::{Refusal, Transactions};
use crate::{BACKEND, KafkaPublisherConfig, config, marshaler, producer::record, topic_locks::TopicLocks};

/// Publishes each call in a transaction of its own: all of its messages or none, for readers that read
/// what is committed, which is librdkafka's default and not that of every client.
///
/// It costs a few milliseconds a call, and calls go one after another: publish many messages at once.
/// There is one publisher of a transactional id at a time: the next one that begins to publish fences
/// this one, whose calls then fail with [`PublishErrorKind::Fenced`].
///
/// # Cancel safety
///
/// A `publish` future that is dropped has published all or none of its messages.
#[derive(Clone)]
pub struct KafkaTransactionalPublisher(Arc<Shared>);

struct Shared {
    config: KafkaPublisherConfig,
    id: String,
    state: Mutex<State>,
    topic_locks: Arc<TopicLocks>,
    calls: Calls,
}

enum State {
    /// No producer: none yet, or the last one was dropped in the middle of a call or after an error.
    Idle,
    Ready(Transactions),
    Fenced,
}

impl KafkaTransactionalPublisher {
    /// A publisher with a transactional id, which names it in the whole cluster. It takes over from an
    /// earlier one when it first publishes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`], and for an id that is empty or has a NUL.
    pub fn new(
        config: KafkaPublisherConfig,
        transactional_id: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = transactional_id.into();
        config::check_transactional_id(&id)?;
        // Made to hear what librdkafka has against it, and not used: it would fence others at once.
        config.transactional_client(&id).create_native_config().map_err(config::refused_by_client)?;
        let (state, calls) = (Mutex::new(State::Idle), Calls::default());
        let topic_locks = Arc::default();
        Ok(Self(Arc::new(Shared { config, id, state, topic_locks, calls })))
    }
}

impl Shared {
    async fn publish(&self, topic: &str, messages: &[Message]) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        // Out of its place: a call that is dropped in the middle leaves no producer behind that would put
        // its messages into the next call's transaction.
        let producer = match std::mem::replace(&mut *state, State::Idle) {
            State::Ready(producer) => producer,
            State::Idle => Transactions::begin_term(&self.config, &self.id, &self.topic_locks).await?,
            State::Fenced => {
                *state = State::Fenced;
                return Err(Failure::because(Trouble::Fenced, "make another publisher to take over again"));
            }
        };
        match self.transaction(&producer, topic, messages).await {
            Ok(()) => *state = State::Ready(producer),
            Err(failure) => {
                if failure.trouble() == Trouble::Fenced {
                    *state = State::Fenced;
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn transaction(
        &self,
        producer: &Transactions,
        topic: &str,
        messages: &[Message],
    ) -> Result<(), Failure> {
        producer.make(topic).await?;
        let published =
            producer.publish(messages.len(), |at, call| record(call, topic, at, &messages[at])).await;
        match published {
            Ok(()) => self.topic_locks.lock(topic).await.found(true),
            Err(Refusal { failure, .. }) if failure.trouble() == Trouble::Topic => {
                return Err(self.topic_locks.unknown(topic, failure).await);
            }
            Err(Refusal { failure, .. }) => return Err(failure),
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for KafkaTransactionalPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let shared = &*self.0;
        let Some(_call) = shared.calls.begin(topic, &messages)? else { return Ok(()) };
        config::check_topic(topic)
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        refuse_delays(topic, &messages)?;
        for message in &messages {
            marshaler::check(message, shared.config.message_bytes_max())
                .map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))?;
        }
        shared.publish(topic, &messages).await.map_err(|failure| failure.publishing(topic))
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.0.calls.close().await;
        *self.0.state.lock().await = State::Idle;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).atomic(true).keeps_order(true)
    }
}

impl fmt::Debug for KafkaTransactionalPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTransactionalPublisher")
            .field("id", &self.0.id)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
