//! [`KafkaExactlyOncePublisher`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::{task, time::timeout};
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Settler, Trouble, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    metadata_keys,
    publisher::PublisherCapabilities,
};

use super::{open::Cause, pair::Pair, share::Share};
use crate::{
    BACKEND, KafkaPublisherConfig, KafkaSubscriber, config, error, marshaler, subscription::KafkaSource,
    topics,
};

/// Publishes what is made of a subscriber's deliveries, each delivery's messages in one transaction with its
/// ack: for readers of what is committed, which is librdkafka's default and not that of every client, every
/// delivery has its outputs exactly once.
///
/// [`publish`](Publisher::publish) returns when the messages are in the open transaction, which is committed once
/// everything that takes part in it is acked, at the subscriber's
/// [`commit_interval`](crate::KafkaSubscriberConfig::commit_interval). Where a delivery is nacked instead, or lost to
/// another member of the group, or a message is refused, the transaction is aborted: none of its messages is
/// seen, and the deliveries that took part come again. Handlers may run more than once; their outputs count once.
///
/// Messages name the delivery that they were made of. A [`Router`](watermill_core::Router) sees to that for the
/// outputs of its handlers and for their dead letters; elsewhere,
/// [`Message::with_delivery`](watermill_core::Message::with_delivery) does. A message that names none is refused.
///
/// # Cancel safety
///
/// A `publish` future that is dropped in the middle aborts the transaction.
#[derive(Clone)]
pub struct KafkaExactlyOncePublisher(Arc<Shared>);

struct Shared {
    config: KafkaPublisherConfig,
    pair: Arc<Pair>,
    _share: Arc<Share>,
    calls: Calls,
}

impl KafkaExactlyOncePublisher {
    /// A publisher whose transactions carry the positions of a subscriber, which is to have a group and no
    /// subscription yet.
    ///
    /// The transactional id names this process among those of the group. One that is started again under the same
    /// id takes over from its predecessor at once; under another, what that has left open ends after a minute
    /// at most, or `delivery_timeout` if that is shorter, and keeps its partitions waiting as long.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`], for an id that is empty or has a NUL, and for a
    /// subscriber that cannot be one of a pair.
    pub fn new(
        config: KafkaPublisherConfig,
        transactional_id: impl Into<String>,
        subscriber: &KafkaSubscriber,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = transactional_id.into();
        config::check_transactional_id(&id)?;
        config.transactional_client(&id).create_native_config().map_err(config::refused_by_client)?;
        let pair = Pair::new(config.clone(), id);
        let share = Arc::new(Share(pair.clone()));
        subscriber.commit_with(share.clone())?;
        let calls = Calls::default();
        Ok(Self(Arc::new(Shared { config, pair, _share: share, calls })))
    }
}

impl Shared {
    /// The deliveries that messages were made of, each once.
    fn causes(&self, topic: &str, messages: &[Message]) -> Result<Vec<Cause>, PublishError> {
        let mut causes: Vec<Cause> = Vec::with_capacity(1);
        for message in messages {
            let cause = message.delivery().and_then(|info| {
                let shared = &info.origin().settler::<Settler<KafkaSource>>()?.source().shared;
                let theirs = shared.together().map(Arc::as_ptr);
                let ours = theirs.is_some_and(|theirs| std::ptr::addr_eq(theirs, Arc::as_ptr(&self.pair)));
                ours.then(|| Cause { shared: shared.clone(), token: info.token() })
            });
            let Some(cause) = cause else {
                let detail = "a message does not name the delivery that it was made of, or one of another \
                              subscriber: it can be part of no transaction; use another publisher for it";
                return Err(PublishError::new(PublishErrorKind::Unsupported, topic).because(detail));
            };
            let known =
                |known: &Cause| known.token == cause.token && Arc::ptr_eq(&known.shared, &cause.shared);
            if !causes.iter().rev().any(known) {
                causes.push(cause);
            }
        }
        // In the order in which they can be enlisted.
        causes.sort_by_key(|cause| cause.token);
        Ok(causes)
    }

    async fn publish(
        &self,
        topic: &str,
        messages: &[Message],
        causes: Vec<Cause>,
    ) -> Result<(), PublishError> {
        config::check_topic(topic)
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        refuse_delays(topic, messages)?;
        for message in messages {
            marshaler::check(message, self.config.message_bytes_max())
                .map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))?;
        }
        // The handler's failure policy has had its say on what is a dead letter.
        let is_letter = |message: &Message| message.metadata().contains(metadata_keys::REASON_POISONED);
        if !messages.iter().all(is_letter)
            && let Some(refused) = self.pair.refusals(|refusals| refusals.of(&causes))
        {
            if refused.kind() == PublishErrorKind::Topic {
                // It may have been deleted since it was made.
                self.pair.topic_locks().lock(refused.topic()).await.found(false);
            }
            return Err(refused);
        }
        let topic: Arc<str> = topic.into();
        self.prepare(&topic).await.map_err(|failure| failure.publishing(&topic))?;
        let entering = timeout(self.config.delivery_timeout, self.pair.enter(&topic, messages.len(), causes));
        let entered = match entering.await {
            Ok(entered) => entered,
            Err(_) => Err(Failure::because(Trouble::Timeout, "no transaction has opened in time")),
        };
        let entered = entered.map_err(|failure| failure.publishing(&topic))?;
        for (at, message) in messages.iter().enumerate() {
            let queued = entered.producer.enqueue(&entered.call, &topic, entered.first + at, message).await;
            queued.map_err(|error| error::classify(error).publishing(&topic))?;
        }
        entered.leave();
        Ok(())
    }

    /// Sees to it that the topic can be published to, until it can.
    async fn prepare(&self, topic: &str) -> Result<(), Failure> {
        let mut topic_lock = self.pair.topic_locks().lock(topic).await;
        let due = if self.config.create_topics.is_some() { !topic_lock.exists() } else { topic_lock.look() };
        if due {
            topic_lock.found(topics::prepare_to_publish(&self.config, topic).await?);
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for KafkaExactlyOncePublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let shared = &*self.0;
        let Some(_call) = shared.calls.begin(topic, &messages)? else { return Ok(()) };
        let causes = shared.causes(topic, &messages)?;
        let published = shared.publish(topic, &messages, causes.clone()).await;
        if let Err(error) = &published {
            shared.pair.failed(&causes, error);
        }
        published
    }

    /// Waits for the calls in progress, and for the transaction that is open.
    async fn close(&self) -> Result<(), PublishError> {
        self.0.calls.close().await;
        let pair = self.0.pair.clone();
        let patience = self.0.config.request_timeout;
        match task::spawn_blocking(move || pair.flush(patience)).await {
            Ok(ended) => ended.map_err(|failure| failure.publishing("")),
            // The runtime ends, and what was not committed comes again.
            Err(_) => Ok(()),
        }
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).atomic(true).commits_with_ack(true)
    }
}

impl fmt::Debug for KafkaExactlyOncePublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaExactlyOncePublisher")
            .field("id", &self.0.pair.id())
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
