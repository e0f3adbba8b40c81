//! Joins RabbitMQ to the conformance suite: a queue for each group, whose consumers compete.

use std::time::Duration;

use async_trait::async_trait;
use watermill_amqp::{AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology};
use watermill_testkit::{Backend, Connection, Lack, Limits, Service};

/// A server takes a client for dead that was silent for two of them.
const HEARTBEAT: Duration = Duration::from_secs(1);
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// So that what is too large for a test need not be larger than what a server takes.
const PAYLOAD_BYTES_MAX: usize = 2 << 20;

struct RabbitMq {
    url: String,
}

fn topology() -> Topology {
    Topology::pub_sub().dead_letters(|topic, _| (!topic.ends_with(".dead")).then(|| format!("{topic}.dead")))
}

impl RabbitMq {
    fn connect_with(&self, heartbeat: Duration) -> Connection {
        let publisher = AmqpPublisherConfig::new(&self.url, topology()).payload_bytes_max(PAYLOAD_BYTES_MAX);
        let subscriber = AmqpSubscriberConfig::new(&self.url, topology()).group("suite").heartbeat(heartbeat);
        Connection::new(
            AmqpPublisher::new(publisher).expect("a valid config"),
            AmqpSubscriber::new(subscriber).expect("a valid config"),
        )
    }
}

#[async_trait]
impl Backend for RabbitMq {
    async fn connect(&self) -> Connection {
        self.connect_with(Duration::from_secs(10))
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        Some((self.connect_with(HEARTBEAT), DEAD_AFTER))
    }

    /// A queue has what was published since it was made. `tests/restart.rs` has a server that it may kill.
    fn lacks(&self) -> &[Lack] {
        &[Lack::History, Lack::Restart]
    }

    fn limits(&self) -> Limits {
        Limits::default().payload_max(PAYLOAD_BYTES_MAX).metadata(|name, _| name.len() <= 255)
    }

    fn invalid_topics(&self) -> Vec<String> {
        vec![String::new(), "amq.nobodys".to_owned(), "x".repeat(256)]
    }

    fn dead_letter_topic(&self, topic: &str) -> Option<String> {
        Some(format!("{topic}.dead"))
    }
}

watermill_testkit::conformance!(RabbitMq { url: Service::RABBITMQ.url() });
