//! [`PubSubSubscriber`]: makes subscriptions.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream::BoxStream};
use google_cloud_pubsub::client::Subscriber as Client;
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use watermill_core::{
    Delivery, Subscriber, Subscription,
    backend::{ById, Failure, Nacks, Registry, Shared, SharedOptions, Trouble},
    error::{ConfigError, SubscribeError},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    BACKEND, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriberConfig, clients,
    config::check_name,
    dead_letters::DeadLetters,
    pull::{Beginning, Pull, State},
    settle::Settling,
    subscriptions::Subscriptions,
};

/// Acks are handed to the client together, which sends them every 100 ms.
const RECORD_BATCH: usize = 100;
const RECORD_INTERVAL: Duration = Duration::from_millis(2);

/// Reads topics of a project by streaming pull, for a consumer group or all by itself.
///
/// Every ordering key is an ordering scope, and every message without one is a scope of its own. A message
/// stays leased while it is in hand, up to [`max_lease`](PubSubSubscriberConfig::max_lease).
pub struct PubSubSubscriber {
    config: PubSubSubscriberConfig,
    client: Client,
    subscriptions: Arc<Subscriptions>,
    dead_letters: OnceCell<DeadLetters>,
    running: Registry<State>,
}

impl PubSubSubscriber {
    /// A subscriber. It finds its credentials here, and connects with the first subscription.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`PubSubSubscriberConfig::validate`], and for credentials that cannot be found.
    pub async fn new(config: PubSubSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = clients::subscriber(&config.access).await?;
        Ok(Self::with_client(config, client))
    }

    fn with_client(config: PubSubSubscriberConfig, client: Client) -> Self {
        Self {
            subscriptions: Arc::new(Subscriptions::new(config.clone())),
            dead_letters: OnceCell::new(),
            running: Registry::default(),
            config,
            client,
        }
    }

    fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        self.running.check(topic)?;
        let named = check_name(topic).map_err(|problem| Failure::because(Trouble::Topic, problem));
        let named = named.and_then(|()| {
            let name = self.config.subscription(topic);
            check_name(&name).map_err(|problem| {
                Failure::because(Trouble::Config, format!("the subscription {name:?}: {problem}"))
            })
        });
        named.map_err(|failure| failure.subscribing(topic))
    }

    async fn dead_letters(&self, topic: &str) -> Result<Option<DeadLetters>, Failure> {
        let Some(to) = self.config.dead_letter_topic_of(topic) else { return Ok(None) };
        let config = &self.config;
        let made = self.dead_letters.get_or_try_init(|| async {
            let publishing = PubSubPublisherConfig::new(config.access.clone())
                .create_topics(config.create_topics)
                .request_timeout(config.request_timeout);
            let publisher = PubSubPublisher::new(publishing).await?;
            Ok(DeadLetters::new(publisher, to, config.retry))
        });
        made.await.cloned().map(Some).map_err(|error: ConfigError| Failure::new(Trouble::Config, error))
    }
}

#[async_trait]
impl Subscriber for PubSubSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.check(topic)?;
        let failed = |failure: Failure| failure.subscribing(topic);
        let known = self.subscriptions.ensure(topic).await.map_err(failed)?;
        let dead_letters = self.dead_letters(topic).await.map_err(failed)?;
        let options = SharedOptions::default()
            .record_batch(RECORD_BATCH)
            .record_interval(RECORD_INTERVAL)
            .close_timeout(self.config.request_timeout * 3);
        let ledger = ById::new(Nacks::ToServer).scoped();
        let shared = Arc::new(Shared::new(topic, self.config.group.as_deref(), ledger, options));
        let asked = CancellationToken::new();
        let subscription = self.running.start(BACKEND, shared, |shared, origin| {
            let pull = Pull::new(Beginning {
                shared,
                origin,
                config: self.config.clone(),
                subscriptions: self.subscriptions.clone(),
                client: self.client.clone(),
                known,
                asked: asked.clone(),
                settling: Settling::new(topic, dead_letters),
            });
            pull.run()
        })?;
        Ok(subscription.map_stream(|deliveries| Asking { deliveries, asked: Some(asked.drop_guard()) }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.check(topic)?;
        self.subscriptions.ensure(topic).await.map(drop).map_err(|failure| failure.subscribing(topic))
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        config.validate()?;
        Ok(Arc::new(Self::with_client(config, self.client.clone())))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.running.close().await;
        if let Some(dead_letters) = self.dead_letters.get() {
            dead_letters.close().await;
        }
        closed
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.running.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .groups(true)
            .persistent(true)
            .ordering(if self.config.ordered { Ordering::Scoped } else { Ordering::None })
            .attempts(self.config.counts_attempts)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

impl fmt::Debug for PubSubSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubSubscriber").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Says so when it is polled for the first time: a subscription that nobody reads fetches nothing, and how
/// much may be in hand is set before.
struct Asking {
    deliveries: BoxStream<'static, Result<Delivery, SubscribeError>>,
    asked: Option<DropGuard>,
}

impl Stream for Asking {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        drop(self.asked.take());
        self.deliveries.poll_next_unpin(cx)
    }
}
