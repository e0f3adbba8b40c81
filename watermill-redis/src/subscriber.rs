//! [`RedisSubscriber`].

use std::sync::Arc;

use async_trait::async_trait;
use redis::Client;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Nacks, Registry, Shared, SharedOptions, TransportOptions},
    error::{ConfigError, SubscribeError},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    BACKEND, RedisSubscriberConfig,
    settle::{RedisTransport, State},
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
    open: Registry<State>,
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
        let config = &self.config;
        let ledger = ById::new(Nacks::KeptHere).ahead(config.fetch_ahead);
        let options =
            SharedOptions::default().record_batch(RECORD_BATCH).record_interval(config.ack_interval);
        let shared = Arc::new(Shared::new(topic, Some(&config.group), ledger, options));
        let transport = RedisTransport::new(&self.client, config.clone(), shared);
        transport.create_group(config.start).await.map_err(|failure| failure.subscribing(topic))?;
        Ok(transport)
    }
}

#[async_trait]
impl Subscriber for RedisSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let transport = self.prepare(topic).await?;
        let shared = transport.shared.clone();
        let options = TransportOptions::default()
            .fetch_waits()
            .lease(Some(self.config.visibility_timeout))
            .retry(self.config.retry);
        self.open.start(BACKEND, shared, |shared, origin| backend::run(shared, origin, transport, options))
    }

    /// Creates the group, and the stream with it.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.prepare(topic).await.map(drop)
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = RedisSubscriberConfig { group: group.to_owned(), ..self.config.clone() };
        Ok(Arc::new(Self::new(self.client.clone(), config)?))
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
