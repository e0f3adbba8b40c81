//! Topics, and what a reader of committed records sees in them.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::OwnedMessage,
    producer::{BaseProducer, Producer as _},
};
use watermill_core::Message;
use watermill_kafka::KafkaPublisherConfig;
use watermill_testkit::{Service, unique};

pub(crate) const WAIT: Duration = Duration::from_secs(30);

pub(crate) fn brokers() -> String {
    Service::KAFKA.url()
}

pub(crate) fn config() -> KafkaPublisherConfig {
    KafkaPublisherConfig::new(brokers())
}

/// A topic of one partition, with these settings.
pub(crate) async fn topic(settings: &[(&str, &str)]) -> String {
    let topic = unique("topic");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let results = admin.create_topics([&new], &AdminOptions::new()).await.expect("the broker answers");
    results.into_iter().for_each(|result| {
        result.expect("the topic is made");
    });
    topic
}

pub(crate) fn messages(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|number| Message::new(number.to_string())).collect()
}

/// A producer of transactions that is not ours.
pub(crate) fn raw(transactional_id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "3000")
        .create()
        .expect("a producer");
    producer.init_transactions(WAIT).expect("it is initialised");
    producer
}

/// All committed records of a topic's only partition.
pub(crate) fn committed(topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&from).expect("it is assigned");
    let mut records = Vec::new();
    loop {
        match consumer.poll(WAIT).expect("the end is reached") {
            Ok(record) => records.push(record.detach()),
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Their values, as texts.
pub(crate) fn texts(topic: &str) -> Vec<String> {
    let text = |record: &OwnedMessage| String::from_utf8_lossy(record.payload().unwrap_or_default()).into();
    committed(topic).iter().map(text).collect()
}
