//! How fast messages go from one topic to another, in order, beside librdkafka with 1,000 in flight.
//!
//! ```text
//! cargo bench -p watermill-kafka --features apache-kafka --bench kafka_topics -- [--json]
//! ```
//!
//! The server is the one that tests use: `cargo xtask services up kafka`.

mod ours;
mod raw;

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::runtime::{Builder, Runtime};
use watermill_core::{Subscriber as _, metadata_keys::MESSAGE_UUID};
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 200_000;
const PARTITIONS: i32 = 4;
/// Rounds, in which ours and raw take turns, so that what else the machine does hits both.
const ROUNDS: usize = 7;
/// Records of a raw producer that may be on their way.
const IN_FLIGHT: usize = 1_000;

/// Where messages come from and go to.
struct Way {
    brokers: String,
    from: String,
    to: String,
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let way = Way { brokers: Service::KAFKA.url(), from: unique("from"), to: unique("to") };
    fill(&runtime, &way);
    let (mut raw, mut router, mut exactly_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(runtime.block_on(raw::move_all(&way)));
        router.push(runtime.block_on(ours::move_all(&way)));
        exactly_once.push(runtime.block_on(ours::move_all_exactly_once(&way)));
    }
    let rate = |times: Vec<Duration>| {
        workload::middle(times.into_iter().map(|took| workload::per_second(MESSAGES, took)))
    };
    let raw = rate(raw);
    let figure = |name: &str, times| Figure::new(name, rate(times), "messages per second").baseline(raw);
    let mut figures = Figures::from_args();
    figures.push(figure("kafka-topics/router", router).limit(Limit::AtLeast(0.6)));
    figures.push(figure("kafka-topics/exactly-once", exactly_once));
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

/// Makes both topics and publishes the workload with librdkafka itself.
fn fill(runtime: &Runtime, way: &Way) {
    let config = KafkaSubscriberConfig::new(&way.brokers).create_topics(CreateTopics::new(PARTITIONS, 1));
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    for topic in [&way.from, &way.to] {
        runtime.block_on(subscriber.initialize(topic)).expect("the topic is made");
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &way.brokers)
        .set("linger.ms", "5")
        .create()
        .expect("a producer");
    for n in 0..MESSAGES {
        let message = workload::message(n);
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: MESSAGE_UUID, value: Some(message.id().as_str()) });
        for (key, value) in message.metadata().iter() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let key = format!("key-{}", n % 1_000);
        let mut record = BaseRecord::<[u8], [u8]>::to(&way.from)
            .payload(message.payload())
            .key(key.as_bytes())
            .headers(headers);
        while let Err((_, again)) = producer.send(record) {
            producer.poll(Duration::from_millis(1));
            record = again;
        }
    }
    producer.flush(Duration::from_secs(60)).expect("everything is written");
}
