//! [`RedisSubscriber`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Client;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Nacks, Registry, Shared, SharedOptions, TransportOptions},
    delivery::Origin,
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    BACKEND, RedisSubscriberConfig,
    error::EMPTY_TOPIC,
    settle::{Entry, RedisTransport},
};

/// How many outcomes are recorded together.
const RECORD_BATCH: usize = 100;

/// Reads streams for a consumer group: the topic is the key of one.
///
/// Each subscription is a consumer of the group, with two connections: one waits for messages.
#[derive(Debug)]
pub struct RedisSubscriber {
    client: Client,
    config: RedisSubscriberConfig,
    open: Registry<Shared<ById<Entry>>>,
}

impl RedisSubscriber {
    /// A subscriber by way of a client, which knows the server, how to log in, and TLS. Nothing is sent before
    /// the first subscription.
    ///
    /// # Errors
    ///
    /// As [`RedisSubscriberConfig::validate`].
    pub fn new(client: Client, config: RedisSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { client, config, open: Registry::default() })
    }

    /// A consumer whose group is there.
    async fn prepare(&self, topic: &str) -> Result<RedisTransport, SubscribeError> {
        self.open.check(topic)?;
        if topic.is_empty() {
            return Err(SubscribeError::new(SubscribeErrorKind::Topic, topic).because(EMPTY_TOPIC));
        }
        let config = &self.config;
        let consumer = config.consumer.clone().unwrap_or_else(|| Uuid::now_v7().simple().to_string());
        let ledger = ById::new(Nacks::KeptHere).ahead(config.fetch_ahead);
        let options =
            SharedOptions::default().record_batch(RECORD_BATCH).record_interval(config.ack_interval);
        let shared = Arc::new(Shared::new(topic, Some(&config.group), ledger, options));
        let transport = RedisTransport::new(&self.client, config.clone(), consumer, shared);
        transport.create_group(config.start).await.map_err(|failure| failure.subscribing(topic))?;
        Ok(transport)
    }
}

#[async_trait]
impl Subscriber for RedisSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let transport = self.prepare(topic).await?;
        let shared = transport.shared.clone();
        let origin = Origin::builder(BACKEND, topic).group(shared.group());
        let (subscription, origin) = self.open.open(origin, shared.clone())?;
        let options = TransportOptions::default()
            // A fetch waits by itself.
            .poll_interval(Duration::from_millis(1), Duration::from_millis(1))
            .lease(Some(self.config.visibility_timeout))
            .retry(self.config.retry);
        tokio::spawn(backend::run(shared, origin, transport, options));
        Ok(subscription)
    }

    /// Creates the group, and the stream with it.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.prepare(topic).await.map(drop)
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = RedisSubscriberConfig { group: group.to_owned(), ..self.config.clone() };
        match Self::new(self.client.clone(), config) {
            Ok(subscriber) => Ok(Arc::new(subscriber)),
            Err(error) => Err(SubscribeError::new(SubscribeErrorKind::Config, "").with_source(error)),
        }
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    /// A group's members each get the next message, so that only one alone reads in order: no order is
    /// claimed.
    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .persistent(true)
            .groups(true)
            .ordering(Ordering::None)
            .attempts(true)
            .nack_delay(true)
    }
}
