//! [`CoreNatsSubscriber`].

use std::sync::Arc;

use async_nats::Client;
use async_trait::async_trait;
use tokio::time::timeout;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Failure, Nacks, Registry, Shared, SharedOptions, TransportOptions, Trouble},
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{DeliveryGuarantee, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use super::{
    BACKEND, CoreNatsConfig,
    settle::{CoreNatsTransport, State},
};
use crate::{
    error::{connected, of_sending, taken},
    subject,
};

/// Gets what is published to a subject, with wildcards or without, while it is subscribed: at most once.
///
/// To settle has no effect. When the connection was lost and is there again, the stream has an error of kind
/// [`Missed`](SubscribeErrorKind::Missed); in front of a router's handler, [`OnMissed`](watermill_core::decorator::OnMissed)
/// tells. So it is with a subscription that reads more slowly than messages come, for those beyond its
/// [`buffer`](CoreNatsConfig::buffer).
#[derive(Debug)]
pub struct CoreNatsSubscriber {
    client: Client,
    config: CoreNatsConfig,
    open: Registry<State>,
}

impl CoreNatsSubscriber {
    /// A subscriber by way of a client, which is connected, and connects again by itself.
    ///
    /// # Errors
    ///
    /// As [`CoreNatsConfig::validate`].
    pub fn new(client: Client, config: CoreNatsConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { client, config, open: Registry::default() })
    }

    fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)?;
        subject::check_filter(topic).map_err(|failure| failure.subscribing(topic))
    }

    async fn begin(&self, topic: &str) -> Result<async_nats::Subscriber, Failure> {
        connected(&self.client)?;
        let topic = topic.to_owned();
        let arriving = match self.config.queue_group.clone() {
            Some(group) => self.client.queue_subscribe(topic, group).await,
            None => self.client.subscribe(topic).await,
        };
        let arriving = arriving.map_err(of_sending)?;
        // What is published from now on comes.
        taken(&self.client, self.config.timeout).await?;
        Ok(arriving)
    }
}

#[async_trait]
impl Subscriber for CoreNatsSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.check(topic)?;
        let late = |_| Err(Failure::because(Trouble::Timeout, "the server does not answer"));
        let arriving = timeout(self.config.timeout, self.begin(topic)).await.unwrap_or_else(late);
        let arriving = arriving.map_err(|failure| failure.subscribing(topic))?;
        let group = self.config.queue_group.as_deref();
        let shared = Shared::new(topic, group, ById::new(Nacks::Forgotten), SharedOptions::default());
        let shared = Arc::new(shared);
        let transport = CoreNatsTransport::new(self.client.clone(), arriving, &self.config, shared.clone());
        let options = TransportOptions::default().fetch_waits();
        self.open.start(BACKEND, shared, |shared, origin| backend::run(shared, origin, transport, options))
    }

    /// Checks the subject: there is nothing to make.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.check(topic)
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        if self.config.queue_group.is_none() {
            let error = SubscribeError::new(SubscribeErrorKind::Unsupported, "");
            return Err(error.because("without a queue group every subscription gets every message"));
        }
        let config = self.config.clone().queue_group(group);
        Ok(Arc::new(Self::new(self.client.clone(), config)?))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .groups(self.config.queue_group.is_some())
            .delivery(DeliveryGuarantee::AtMostOnce)
    }
}
