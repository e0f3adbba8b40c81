//! [`NatsSubscriber`].

use std::sync::Arc;

use async_nats::{Client, jetstream::consumer};
use async_trait::async_trait;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Failure, Nacks, Registry, Shared, SharedOptions, TransportOptions},
    error::{ConfigError, SubscribeError},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    BACKEND, NatsSubscriberConfig,
    api::Api,
    pulls::Pulls,
    settle::{NatsTransport, State},
    subject,
};

/// How many outcomes are recorded together.
const RECORD_BATCH: usize = 256;

/// Reads JetStream for a consumer group: the topic is a subject, with wildcards or without, of a stream.
///
/// A group is a durable pull consumer, which its members share; each subscription has requests for messages with the
/// server, for as many as it has room for.
#[derive(Debug)]
pub struct NatsSubscriber {
    client: Client,
    config: NatsSubscriberConfig,
    open: Registry<State>,
}

impl NatsSubscriber {
    /// A subscriber by way of a client, which is connected, and connects again by itself.
    ///
    /// # Errors
    ///
    /// As [`NatsSubscriberConfig::validate`].
    pub fn new(client: Client, config: NatsSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { client, config, open: Registry::default() })
    }

    /// The group's consumer, which is there afterwards.
    async fn prepare(&self, topic: &str) -> Result<(Api, consumer::Info), SubscribeError> {
        self.open.check(topic)?;
        let prepared = async {
            subject::check_filter(topic)?;
            let api = Api::new(self.client.clone(), self.config.streams.clone(), self.config.timeout);
            let consumer = api.ensure_consumer(topic, &self.config, self.config.start).await?;
            Ok((api, consumer))
        };
        prepared.await.map_err(|failure: Failure| failure.subscribing(topic))
    }
}

#[async_trait]
impl Subscriber for NatsSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let (api, consumer) = self.prepare(topic).await?;
        let (client, config) = (self.client.clone(), self.config.clone());
        let pulls =
            Pulls::new(&client, config.heartbeat).await.map_err(|failure| failure.subscribing(topic))?;
        let ahead = if config.ordered { 0 } else { config.fetch_ahead };
        let ledger = ById::new(Nacks::ByWindow).ahead(ahead);
        let options =
            SharedOptions::default().record_batch(RECORD_BATCH).record_interval(config.ack_interval);
        let shared = Arc::new(Shared::new(topic, Some(&config.group), ledger, options));
        let options = TransportOptions::default()
            .fetch_waits()
            .lease(Some(consumer.config.ack_wait))
            .retry(config.retry);
        self.open.start(BACKEND, shared, |shared, origin| {
            let ours = (shared.clone(), origin.clone());
            let transport = NatsTransport::new(client, api, config, ours, consumer, pulls);
            backend::run(shared, origin, transport, options)
        })
    }

    /// Makes the stream and the consumer, where they are not there.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.prepare(topic).await.map(drop)
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = NatsSubscriberConfig { group: group.to_owned(), ..self.config.clone() };
        Ok(Arc::new(Self::new(self.client.clone(), config)?))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    /// A group's members each get the next message, so that only one alone reads in order, unless the server hands
    /// out one at a time.
    fn capabilities(&self) -> SubscriberCapabilities {
        let ordering = if self.config.ordered { Ordering::Total } else { Ordering::None };
        SubscriberCapabilities::new(BACKEND)
            .persistent(true)
            .groups(true)
            .ordering(ordering)
            .attempts(true)
            .nack_delay(true)
    }
}
