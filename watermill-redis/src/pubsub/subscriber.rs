//! [`RedisPubSubSubscriber`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Client;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Nacks, Registry, Shared, SharedOptions, TransportOptions},
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{DeliveryGuarantee, Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use super::{
    BACKEND, RedisPubSubSubscriberConfig,
    transport::{Channel, State},
};

/// Listens to channels: at most once, everybody everything.
///
/// Each subscription has a connection of its own. It gets what is published while it listens, in order, and settling has no
/// effect. When its connection breaks it connects again by itself, and when it listens again, or has
/// dropped messages because nobody took them in time, its stream has an error of kind
/// [`Missed`](SubscribeErrorKind::Missed): whoever keeps something by what comes, a cache, drops all of it then. In front of a router's
/// handler, [`OnMissed`](watermill_core::decorator::OnMissed) tells.
#[derive(Debug)]
pub struct RedisPubSubSubscriber {
    client: Client,
    config: RedisPubSubSubscriberConfig,
    open: Registry<State>,
}

impl RedisPubSubSubscriber {
    /// A subscriber by way of a client, which knows the server, how to log in, and TLS. Nothing is sent before
    /// the first subscription.
    ///
    /// # Errors
    ///
    /// As [`RedisPubSubSubscriberConfig::validate`].
    pub fn new(client: Client, config: RedisPubSubSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { client, config, open: Registry::default() })
    }
}

#[async_trait]
impl Subscriber for RedisPubSubSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let shared = Shared::new(topic, None, ById::new(Nacks::Forgotten), SharedOptions::default());
        let channel = Channel::start(self.client.clone(), self.config.clone(), Arc::new(shared));
        let channel = channel.await.map_err(|failure| failure.subscribing(topic))?;
        let shared = channel.shared.clone();
        // A fetch waits by itself.
        let at_once = Duration::from_millis(1);
        let options = TransportOptions::default().poll_interval(at_once, at_once).retry(self.config.retry);
        self.open.start(BACKEND, shared, |shared, origin| backend::run(shared, origin, channel, options))
    }

    /// Looks whether there may be a subscription: a channel need not be made.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let error = SubscribeError::new(SubscribeErrorKind::Unsupported, "");
        Err(error.because("channels have no groups: every subscription gets every message"))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND).delivery(DeliveryGuarantee::AtMostOnce).ordering(Ordering::Total)
    }
}
