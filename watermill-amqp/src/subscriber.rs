//! [`AmqpSubscriber`].

use std::sync::{Arc, Mutex as BlockingMutex};

use async_trait::async_trait;
use tokio::sync::Mutex;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Nacks, Registry, Shared, SharedConnection, SharedOptions, TransportOptions},
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    AmqpSubscriberConfig, BACKEND, NackDelays,
    connection::{Blocked, Connection, ToServer, close_channel},
    declare,
    delays::Delays,
    error::within,
    settle::{AmqpTransport, Current, State},
};

/// How many outcomes are recorded together.
const RECORD_BATCH: usize = 100;

/// Reads the queues of topics.
///
/// Subscriptions share one connection, and each has a channel of its own.
pub struct AmqpSubscriber {
    config: AmqpSubscriberConfig,
    connection: Arc<Connection>,
    delays: Option<Delays>,
    open: Registry<State>,
}

impl AmqpSubscriber {
    /// A subscriber. Nothing connects before the first subscription.
    ///
    /// # Errors
    ///
    /// As [`AmqpSubscriberConfig::validate`].
    pub fn new(config: AmqpSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let server = config.server.clone();
        let delays = (config.nack_delays == NackDelays::InQueues).then(|| Delays::new(&server));
        let to_server = ToServer::new(server, "watermill subscriber", Blocked::default());
        Ok(Self {
            config,
            connection: Arc::new(SharedConnection::new(to_server)),
            delays,
            open: Registry::default(),
        })
    }

    /// The queue, with all that it needs.
    async fn prepare(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)?;
        let (topology, group) = (&self.config.topology, self.config.group.as_deref());
        let timeout = self.config.server.timeout;
        let prepared = self.connection.call(async |open| {
            let channel = open.channel().await?;
            let made = declare::subscription(&channel, topology, topic, group);
            within(timeout, "declare a queue", made).await?;
            close_channel(&channel, timeout).await
        });
        prepared.await.map_err(|failure| failure.subscribing(topic))
    }
}

#[async_trait]
impl Subscriber for AmqpSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.prepare(topic).await?;
        let config = self.config.clone();
        // One that waits at the server is over here, and holds nothing up: what is behind it is not given back.
        let nacks = if self.delays.is_some() { Nacks::Forgotten } else { Nacks::KeptHere };
        let ledger = ById::new(nacks).ahead(config.fetch_ahead);
        let options =
            SharedOptions::default().record_batch(RECORD_BATCH).record_interval(config.ack_interval);
        let shared = Arc::new(Shared::new(topic, config.group.as_deref(), ledger, options));
        let options =
            TransportOptions::default().fetch_waits().lease(Some(config.lease())).retry(config.retry);
        let (connection, delays) = (self.connection.clone(), self.delays.clone());
        self.open.start(BACKEND, shared, |shared, origin| {
            let transport = AmqpTransport {
                config,
                connection,
                delays,
                shared: shared.clone(),
                origin: origin.clone(),
                consuming: Mutex::new(None),
                current: Arc::new(BlockingMutex::new(Current::default())),
            };
            backend::run(shared, origin, transport, options)
        })
    }

    /// Makes the queue, the exchange and the bindings, unless the topology says that they are there.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.prepare(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        if !self.config.topology.has_groups {
            return Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "")
                .because("the topology has no groups: all share one queue"));
        }
        let config = self.config.clone().group(group);
        Ok(Arc::new(Self::new(config)?))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.open.close().await;
        if let Some(open) = self.connection.release().await {
            open.close().await;
        }
        if let Some(delays) = &self.delays {
            delays.close().await;
        }
        closed
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    /// Consumers of a queue each get the next message, so that order is claimed where one is active alone.
    fn capabilities(&self) -> SubscriberCapabilities {
        let topology = &self.config.topology;
        let ordering = if topology.is_single_active { Ordering::Total } else { Ordering::None };
        SubscriberCapabilities::new(BACKEND)
            .persistent(true)
            .groups(topology.has_groups)
            .ordering(ordering)
            .attempts(topology.is_quorum)
            .nack_delay(true)
            .dead_letters(topology.has_dead_letters())
    }
}

impl std::fmt::Debug for AmqpSubscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpSubscriber")
            .field("config", &self.config)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
