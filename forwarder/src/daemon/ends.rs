//! The two ends of a relay: what it reads from, and what it publishes to.

use std::sync::Arc;

use watermill_core::{Publisher, Subscriber, error::ConfigError, fenced::FencedPublisher};
use watermill_forwarder::{FencedForwarder, Forwarder, ForwarderControl, ForwarderError, ForwarderReport};
use watermill_sql::{HeldBack, HeldBackGauge, SqlPool};

use crate::{
    config::{Delivery, Destination, Layout, Relay, Source},
    metrics::{Metered, MeteredFenced, RelayMetrics},
};

/// The source of a relay.
#[derive(Clone)]
pub(crate) struct SourceEnd {
    pub(crate) pool: SqlPool,
    pub(crate) subscriber: Arc<dyn Subscriber>,
    held_back: Option<HeldBackGauge>,
}

/// The destination of a relay.
#[derive(Clone)]
pub(crate) enum DestinationEnd {
    Plain(Arc<dyn Publisher>),
    Fenced(Arc<dyn FencedPublisher>),
}

/// A forwarder of either kind. Clones are the same one, of which one runs at a time.
#[derive(Clone)]
pub(crate) enum AnyForwarder {
    Plain(Forwarder),
    Fenced(FencedForwarder),
}

impl SourceEnd {
    /// Nothing is connected yet.
    pub(crate) fn open(source: &Source) -> Result<Self, ConfigError> {
        let pool = source.url.connect();
        let (subscriber, held_back) = match &source.layout {
            Layout::Log(config) => {
                let (subscriber, held_back) = pool.subscriber_and_gauge(config.clone())?;
                (subscriber, Some(held_back))
            }
            Layout::Queue(config) => (pool.queue_subscriber(config.clone())?, None),
        };
        Ok(Self { pool, subscriber, held_back })
    }

    /// Whose transactions this process waits for.
    pub(crate) fn held_back(&self) -> Vec<HeldBack> {
        self.held_back.as_ref().map(|gauge| gauge()).unwrap_or_default()
    }
}

impl DestinationEnd {
    /// Nothing is connected yet.
    pub(crate) async fn open(relay: &Relay) -> Result<Self, ConfigError> {
        if relay.delivery == Delivery::AtLeastOnce {
            return publisher(&relay.destination).await.map(Self::Plain);
        }
        match &relay.destination {
            Destination::Sql { url, publisher } => {
                url.connect().fenced_publisher(publisher.clone()).map(Self::Fenced)
            }
            #[cfg(feature = "kafka")]
            Destination::Kafka(kafka) => {
                let publisher = watermill_kafka::KafkaFencedPublisher::new(kafka.publisher.clone())?
                    .with_checkpoint_topic(&*kafka.checkpoint_topic)?;
                Ok(Self::Fenced(Arc::new(publisher)))
            }
            #[cfg(any(
                feature = "pubsub",
                feature = "redis",
                feature = "nats",
                feature = "amqp",
                feature = "http"
            ))]
            _ => Err(ConfigError::new("open the destination", "it keeps no checkpoint")),
        }
    }

    /// Sends what is still on its way.
    pub(crate) async fn close(&self) {
        if let Self::Plain(publisher) = self
            && let Err(error) = publisher.close().await
        {
            tracing::warn!(error = %watermill_core::error::chain(&error), "the destination was not closed properly");
        }
    }
}

/// A publisher to a destination.
pub(crate) async fn publisher(destination: &Destination) -> Result<Arc<dyn Publisher>, ConfigError> {
    match destination {
        Destination::Sql { url, publisher } => url.connect().publisher(publisher.clone()),
        #[cfg(feature = "kafka")]
        Destination::Kafka(kafka) => {
            Ok(Arc::new(watermill_kafka::KafkaPublisher::new(kafka.publisher.clone())?))
        }
        #[cfg(feature = "pubsub")]
        Destination::PubSub(config) => {
            Ok(Arc::new(watermill_gcp::PubSubPublisher::new((**config).clone()).await?))
        }
        #[cfg(feature = "redis")]
        Destination::Redis(client) => {
            let config = watermill_redis::RedisPublisherConfig::default();
            Ok(Arc::new(watermill_redis::RedisPublisher::new(client.clone(), config)?))
        }
        #[cfg(feature = "amqp")]
        Destination::Amqp(config) => Ok(Arc::new(watermill_amqp::AmqpPublisher::new((**config).clone())?)),
        #[cfg(feature = "nats")]
        Destination::Nats(nats) => {
            // A server that is away is waited for, by the relay.
            let connecting = nats.options().retry_on_initial_connect().connect(nats.address()).await;
            let client =
                connecting.map_err(|error| ConfigError::new("open the destination", error.to_string()))?;
            Ok(Arc::new(watermill_nats::NatsPublisher::new(client, nats.publisher.clone())?))
        }
        #[cfg(feature = "http")]
        Destination::Http(webhook) => {
            Ok(Arc::new(watermill_http::HttpPublisher::new(webhook.publisher.clone())?))
        }
    }
}

impl AnyForwarder {
    pub(crate) fn new(
        relay: &Relay,
        source: &SourceEnd,
        destination: &DestinationEnd,
        dead_letters: Option<Arc<dyn Publisher>>,
        metrics: &Arc<RelayMetrics>,
    ) -> Result<Self, ConfigError> {
        let (subscriber, metrics) = (Arc::clone(&source.subscriber), Arc::clone(metrics));
        let config = relay.forwarder.clone();
        match destination {
            DestinationEnd::Plain(inner) => {
                let publisher = Metered { inner: Arc::clone(inner), metrics };
                let mut builder = Forwarder::builder(subscriber, publisher).config(config);
                if let Some(dead_letters) = dead_letters {
                    builder = builder.dead_letters(dead_letters);
                }
                builder.build().map(Self::Plain)
            }
            DestinationEnd::Fenced(inner) => {
                let name = match &relay.delivery {
                    Delivery::Fenced(name) => name,
                    Delivery::AtLeastOnce => &relay.name,
                };
                let destination = MeteredFenced { inner: Arc::clone(inner), metrics };
                let mut builder = FencedForwarder::builder(subscriber, destination, name).config(config);
                if let Some(dead_letters) = dead_letters {
                    builder = builder.dead_letters(dead_letters);
                }
                builder.build().map(Self::Fenced)
            }
        }
    }

    pub(crate) fn control(&self) -> ForwarderControl {
        match self {
            Self::Plain(forwarder) => forwarder.control(),
            Self::Fenced(forwarder) => forwarder.control(),
        }
    }

    pub(crate) async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<ForwarderReport, ForwarderError> {
        match self {
            Self::Plain(forwarder) => forwarder.run_until(shutdown).await,
            Self::Fenced(forwarder) => forwarder.run_until(shutdown).await,
        }
    }
}
