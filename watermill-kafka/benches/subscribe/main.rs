//! How fast messages are read, beside librdkafka's own stream.
//!
//! ```text
//! cargo bench -p watermill-kafka --features apache-kafka --bench kafka_subscribe -- [--json] [part of a figure's name]
//! ```
//!
//! The server is the one that tests use: `cargo xtask services up kafka`.

mod ours;
mod raw;

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::runtime::{Builder, Runtime};
use watermill_core::{Subscriber as _, metadata_keys::MESSAGE_UUID};
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 600_000;
const PARTITIONS: i32 = 4;
/// Rounds, in each of which everybody reads the topic once, so that what else the machine does hits all.
const ROUNDS: usize = 7;

/// What is read, and where.
struct Source {
    brokers: String,
    topic: String,
    messages: usize,
}

/// A way of reading, and how long each round took.
struct Contender {
    name: &'static str,
    limit: Option<f64>,
    read: fn(&Runtime, &Source) -> Duration,
    times: Vec<Duration>,
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let source = Source { brokers: Service::KAFKA.url(), topic: unique("bench"), messages: MESSAGES };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    fill(&runtime, &source);

    let mut raw = contender("raw", None, raw::copied);
    let mut contenders = vec![
        contender("kafka-subscribe/metadata", Some(0.85), ours::metadata),
        contender("kafka-subscribe/payload", Some(1.3), ours::payload),
        contender("kafka-subscribe/router", Some(1.0), ours::router),
    ];
    contenders
        .retain(|contender| filter.as_ref().is_none_or(|filter| contender.name.contains(filter.as_str())));
    for _ in 0..ROUNDS {
        raw.run(&runtime, &source);
        contenders.iter_mut().for_each(|contender| contender.run(&runtime, &source));
    }

    let mut figures = Figures::from_args();
    for contender in &contenders {
        let figure = Figure::new(contender.name, contender.per_second(), "messages per second");
        let figure = figure.baseline(raw.per_second());
        figures.push(match contender.limit {
            Some(limit) => figure.limit(Limit::AtLeast(limit)),
            None => figure,
        });
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

fn contender(name: &'static str, limit: Option<f64>, read: fn(&Runtime, &Source) -> Duration) -> Contender {
    Contender { name, limit, read, times: Vec::new() }
}

impl Contender {
    fn run(&mut self, runtime: &Runtime, source: &Source) {
        self.times.push((self.read)(runtime, source));
    }

    /// Of the middle round: which one is the fastest is chance, as much as how slow the others are.
    fn per_second(&self) -> f64 {
        workload::middle(self.times.iter().map(|took| workload::per_second(MESSAGES, *took)))
    }
}

/// Publishes the workload with librdkafka itself.
fn fill(runtime: &Runtime, source: &Source) {
    let config = KafkaSubscriberConfig::new(&source.brokers).create_topics(CreateTopics::new(PARTITIONS, 1));
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    runtime.block_on(subscriber.initialize(&source.topic)).expect("the topic is made");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &source.brokers)
        .set("linger.ms", "5")
        .create()
        .expect("a producer");
    for n in 0..source.messages {
        let message = workload::message(n);
        let mut headers = rdkafka::message::OwnedHeaders::new_with_capacity(4)
            .insert(rdkafka::message::Header { key: MESSAGE_UUID, value: Some(message.id().as_str()) });
        for (key, value) in message.metadata().iter() {
            headers = headers.insert(rdkafka::message::Header { key, value: Some(value) });
        }
        let mut record = BaseRecord::<(), [u8]>::to(&source.topic)
            .payload(&message.payload()[..])
            .partition(i32::try_from(n % PARTITIONS as usize).expect("a small number"))
            .headers(headers);
        while let Err((_, again)) = producer.send(record) {
            producer.poll(Duration::from_millis(1));
            record = again;
        }
    }
    producer.flush(Duration::from_secs(60)).expect("everything is written");
}
