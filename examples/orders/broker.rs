//! [`Broker`]: where orders and invoices are announced and heard.

use std::sync::Arc;

use watermill_core::{MemoryBroker, Publisher, Subscriber, error::BoxError};

/// Who bills: a group, of however many processes.
const GROUP: &str = "billing";

/// A publisher and a subscriber of one broker.
pub(crate) struct Broker {
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) billing: Arc<dyn Subscriber>,
}

impl Broker {
    /// Connects to `memory` or to `kafka://HOST:PORT`.
    pub(crate) fn connect(url: &str) -> Result<Self, BoxError> {
        match url.split_once("://").unwrap_or((url, "")) {
            ("memory", "") => {
                let broker = MemoryBroker::new();
                Ok(Self {
                    publisher: Arc::new(broker.publisher()),
                    billing: Arc::new(broker.subscriber().group(GROUP)),
                })
            }
            #[cfg(feature = "kafka")]
            ("kafka", brokers) => {
                use watermill_kafka::{
                    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber,
                    KafkaSubscriberConfig,
                };
                // As many copies as the brokers give to a topic when nobody asks.
                let topics = CreateTopics::new(4, -1);
                let publishing = KafkaPublisherConfig::new(brokers).create_topics(topics);
                let reading = KafkaSubscriberConfig::new(brokers)
                    .create_topics(topics)
                    .group(GROUP)
                    // How long others wait for a worker that was killed; the least that brokers allow by default.
                    .option("session.timeout.ms", "6000");
                Ok(Self {
                    publisher: Arc::new(KafkaPublisher::new(publishing)?),
                    billing: Arc::new(KafkaSubscriber::new(reading)?),
                })
            }
            _ => Err(format!("connect to {url}: this build has no such broker").into()),
        }
    }

    /// Waits for what is on its way.
    pub(crate) async fn close(&self) -> Result<(), BoxError> {
        self.billing.close().await?;
        self.publisher.close().await?;
        Ok(())
    }
}
