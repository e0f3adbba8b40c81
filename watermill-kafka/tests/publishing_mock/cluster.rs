//! A mock cluster of a test's own, and what was written to it.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
};
use watermill_core::Message;
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::unique;

pub(crate) struct Cluster {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    pub(crate) topic: String,
}

impl Cluster {
    /// One broker, and one topic of so many partitions.
    pub(crate) fn new(partitions: i32) -> Self {
        let mock = MockCluster::new(1).expect("a mock cluster starts");
        let topic = unique("topic");
        mock.create_topic(&topic, partitions, 1).expect("a topic is made");
        Self { mock, topic }
    }

    pub(crate) fn config(&self) -> KafkaPublisherConfig {
        KafkaPublisherConfig::new(self.mock.bootstrap_servers())
    }

    pub(crate) fn publisher(&self) -> KafkaPublisher {
        KafkaPublisher::new(self.config()).expect("a valid config")
    }

    /// Payloads of the first `count` records of a partition, as texts.
    pub(crate) fn read(&self, partition: i32, count: usize) -> Vec<String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.mock.bootstrap_servers())
            .set("group.id", "reader")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer");
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, partition, Offset::Beginning).expect("an offset");
        consumer.assign(&from).expect("it is assigned");
        let mut read = Vec::new();
        while read.len() < count {
            let Some(record) = consumer.poll(Duration::from_secs(1)) else { continue };
            let payload = record.expect("a record").payload().expect("a value").to_vec();
            read.push(String::from_utf8(payload).expect("text"));
        }
        read
    }

    /// How many records a partition has.
    pub(crate) fn len(&self, partition: i32) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.mock.bootstrap_servers())
            .create()
            .expect("a consumer");
        let watermarks = consumer.fetch_watermarks(&self.topic, partition, Duration::from_secs(10));
        watermarks.expect("the mock cluster answers").1
    }
}

/// Messages with these numbers as payloads.
pub(crate) fn messages(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|number| Message::new(number.to_string())).collect()
}

pub(crate) fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}
