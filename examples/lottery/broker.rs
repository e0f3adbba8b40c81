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
    pub(crate) fn connect(url: &BrokerUrl, messages: u32) -> Result<Self, BoxError> {
        match url {
            BrokerUrl::Memory => {
                // Twice, since the relay may publish an event again after it was killed.
                let capacity = 2 * messages as usize + 1024;
                let broker = MemoryBroker::with_config(MemoryConfig::default().capacity(capacity))?;
                let publisher = Arc::new(broker.publisher());
                Ok(Self { publisher, prizes: Arc::new(broker.subscriber().group("prizes")) })
            }
            #[cfg(feature = "kafka")]
            BrokerUrl::Kafka(brokers) => Self::kafka(brokers),
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
}
