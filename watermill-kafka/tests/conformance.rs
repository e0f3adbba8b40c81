//! Joins Apache Kafka to the conformance suite.

use async_trait::async_trait;
use watermill_kafka::{
    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Service};

struct Kafka {
    brokers: String,
}

const DEAD_LETTERS: &str = "dead";

#[async_trait]
impl Backend for Kafka {
    async fn connect(&self) -> Connection {
        // Kafka's own bound for a message is just below what the suite sends.
        let publishing = KafkaPublisherConfig::new(&self.brokers).option("message.max.bytes", "4000000");
        let publisher = KafkaPublisher::new(publishing).expect("a valid config");
        let reading = KafkaSubscriberConfig::new(&self.brokers)
            .create_topics(CreateTopics::new(3, 1))
            .dead_letter_topic(DEAD_LETTERS)
            // A member that leaves while the group joins is waited for until its session ends.
            .option("session.timeout.ms", "6000")
            // Members see each other come and go soon.
            .option("heartbeat.interval.ms", "100");
        Connection::new(publisher, KafkaSubscriber::new(reading).expect("a valid config"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::StableOwnership, Lack::Restart]
    }

    fn invalid_topics(&self) -> Vec<String> {
        ["", ".", "a b", "a/b", "ü", "^a", &"t".repeat(250)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some(DEAD_LETTERS.to_owned())
    }
}

watermill_testkit::conformance!(Kafka { brokers: Service::KAFKA.url() });
