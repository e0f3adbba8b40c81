//! Joins librdkafka's mock cluster to the conformance suite: what needs no server. See
//! `conformance.rs` for Apache Kafka itself.

mod mock_cluster;

use async_trait::async_trait;
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber};
use watermill_testkit::{Backend, Connection, Lack};

struct Mock;

const DEAD_LETTERS: &str = "dead";

#[async_trait]
impl Backend for Mock {
    async fn connect(&self) -> Connection {
        mock_cluster::create(DEAD_LETTERS);
        let publishing =
            KafkaPublisherConfig::new(mock_cluster::brokers()).option("message.max.bytes", "4000000");
        let publisher = KafkaPublisher::new(publishing).expect("a valid config");
        let reading = mock_cluster::subscriber_config().dead_letter_topic(DEAD_LETTERS);
        Connection::new(publisher, KafkaSubscriber::new(reading).expect("a valid config"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::StableOwnership, Lack::Restart]
    }

    fn topic(&self, unique: &str) -> String {
        mock_cluster::create(unique);
        unique.to_owned()
    }

    fn invalid_topics(&self) -> Vec<String> {
        ["", ".", "a b", "a/b", "ü", "^a", &"t".repeat(250)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some(DEAD_LETTERS.to_owned())
    }
}

watermill_testkit::conformance!(Mock);
