//! [`Broker`]: where events are published and heard.

use std::sync::Arc;

use watermill_core::{MemoryBroker, Publisher, Subscriber, error::BoxError, memory::MemoryConfig};

use crate::options::BrokerUrl;

/// A publisher and a subscriber of one broker.
pub(crate) struct Broker {
    pub(crate) publisher: Arc<dyn Publisher>,
    /// For the consumer group of the prize service.
    pub(crate) prizes: Arc<dyn Subscriber>,
}

impl Broker {
    /// Connects to a broker that will have to hold up to `messages` messages: events whose winner is
    /// not stored stay until the end.
    pub(crate) async fn connect(url: &BrokerUrl, messages: u32) -> Result<Self, BoxError> {
        match url {
            BrokerUrl::Memory => {
                let broker = in_memory(messages)?;
                let publisher = Arc::new(broker.publisher());
                Ok(Self { publisher, prizes: Arc::new(broker.subscriber().group("prizes")) })
            }
            #[cfg(feature = "kafka")]
            BrokerUrl::Kafka(brokers) => Self::kafka(brokers),
            #[cfg(feature = "pubsub")]
            BrokerUrl::PubSub(project) => Self::pubsub(project).await,
            #[cfg(feature = "redis")]
            BrokerUrl::Redis(url) => Self::redis(url),
            #[cfg(feature = "amqp")]
            BrokerUrl::Amqp(url) => Self::amqp(url),
            #[cfg(feature = "nats")]
            BrokerUrl::Nats(url) => Self::nats(url).await,
            #[cfg(feature = "http")]
            BrokerUrl::Http(address) => crate::webhook::open(address, in_memory(messages)?).await,
        }
    }

    /// A group of this run's own, which begins with what is announced from now on: what an earlier run has
    /// left behind is about other draws.
    #[cfg(feature = "kafka")]
    fn kafka(brokers: &str) -> Result<Self, BoxError> {
        use watermill_core::MessageId;
        use watermill_kafka::{
            CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
            StartPosition,
        };

        // As many copies as the brokers give to a topic when nobody asks.
        let topics = CreateTopics::new(4, -1);
        let publishing = KafkaPublisherConfig::new(brokers).create_topics(topics);
        let reading = KafkaSubscriberConfig::new(brokers)
            .create_topics(topics)
            .group(format!("prizes-{}", MessageId::new()))
            .start(StartPosition::Latest);
        Ok(Self {
            publisher: Arc::new(KafkaPublisher::new(publishing)?),
            prizes: Arc::new(KafkaSubscriber::new(reading)?),
        })
    }

    /// The same on streams of Redis.
    #[cfg(feature = "redis")]
    fn redis(url: &str) -> Result<Self, BoxError> {
        use watermill_core::MessageId;
        use watermill_redis::{
            RedisPublisher, RedisPublisherConfig, RedisSubscriber, RedisSubscriberConfig, StartPosition,
        };

        let server = redis::Client::open(url)?;
        let group = format!("prizes-{}", MessageId::new());
        let reading = RedisSubscriberConfig::new(group).start(StartPosition::Latest);
        Ok(Self {
            publisher: Arc::new(RedisPublisher::new(server.clone(), RedisPublisherConfig::default())?),
            prizes: Arc::new(RedisSubscriber::new(server, reading)?),
        })
    }

    /// The same on Google Pub/Sub, where a group is a subscription.
    #[cfg(feature = "pubsub")]
    async fn pubsub(project: &str) -> Result<Self, BoxError> {
        use watermill_core::MessageId;
        use watermill_gcp::{
            NewSubscription, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber, PubSubSubscriberConfig,
        };

        let publishing = PubSubPublisherConfig::new(project).create_topics(true);
        let reading = PubSubSubscriberConfig::new(project)
            .create_topics(true)
            .create_subscriptions(NewSubscription::new())
            .group(format!("prizes-{}", MessageId::new()));
        Ok(Self {
            publisher: Arc::new(PubSubPublisher::new(publishing).await?),
            prizes: Arc::new(PubSubSubscriber::new(reading).await?),
        })
    }

    /// The same on RabbitMQ, where a group is a queue: one that goes when nobody has used it for an hour.
    #[cfg(feature = "amqp")]
    fn amqp(url: &str) -> Result<Self, BoxError> {
        use watermill_amqp::{
            AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Argument, Queue,
            Topology,
        };
        use watermill_core::MessageId;

        let topology = Topology::pub_sub().queue_of(|topic, group| {
            let name = format!("{topic}_{}", group.unwrap_or_default());
            Queue::new(name).argument("x-expires", Argument::Number(60 * 60 * 1_000))
        });
        let group = format!("prizes-{}", MessageId::new());
        let reading = AmqpSubscriberConfig::new(url, topology.clone()).group(group);
        Ok(Self {
            publisher: Arc::new(AmqpPublisher::new(AmqpPublisherConfig::new(url, topology))?),
            prizes: Arc::new(AmqpSubscriber::new(reading)?),
        })
    }

    /// The same on NATS, where a group is a durable consumer.
    #[cfg(feature = "nats")]
    async fn nats(url: &str) -> Result<Self, BoxError> {
        use watermill_core::MessageId;
        use watermill_nats::{
            NatsPublisher, NatsPublisherConfig, NatsSubscriber, NatsSubscriberConfig, StartPosition,
        };

        let client = async_nats::connect(url).await?;
        let reading =
            NatsSubscriberConfig::new(format!("prizes-{}", MessageId::new())).start(StartPosition::Latest);
        Ok(Self {
            publisher: Arc::new(NatsPublisher::new(client.clone(), NatsPublisherConfig::default())?),
            prizes: Arc::new(NatsSubscriber::new(client, reading)?),
        })
    }
}

fn in_memory(messages: u32) -> Result<MemoryBroker, BoxError> {
    // Twice, since the relay may publish an event again after it was killed.
    let capacity = 2 * messages as usize + 1024;
    Ok(MemoryBroker::with_config(MemoryConfig::default().capacity(capacity))?)
}
