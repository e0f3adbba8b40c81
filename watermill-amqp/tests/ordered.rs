//! Joins RabbitMQ to the conformance suite: quorum queues, which count deliveries, with a single active consumer each,
//! which keeps the order.

use std::time::Duration;

use async_trait::async_trait;
use watermill_amqp::{AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology};
use watermill_testkit::{Backend, Connection, Lack, Limits, Service};

struct Ordered {
    url: String,
}

fn topology() -> Topology {
    Topology::pub_sub().quorum().single_active_consumer()
}

impl Ordered {
    fn connect_with(&self, heartbeat: Duration) -> Connection {
        let subscriber = AmqpSubscriberConfig::new(&self.url, topology()).group("suite").heartbeat(heartbeat);
        Connection::new(
            AmqpPublisher::new(AmqpPublisherConfig::new(&self.url, topology())).expect("a valid config"),
            AmqpSubscriber::new(subscriber).expect("a valid config"),
        )
    }
}

#[async_trait]
impl Backend for Ordered {
    async fn connect(&self) -> Connection {
        self.connect_with(Duration::from_secs(10))
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        Some((self.connect_with(Duration::from_secs(1)), Duration::from_secs(3)))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::History, Lack::Restart]
    }

    fn limits(&self) -> Limits {
        Limits::default().metadata(|name, _| name.len() <= 255)
    }
}

watermill_testkit::conformance!(Ordered { url: Service::RABBITMQ.url() });
