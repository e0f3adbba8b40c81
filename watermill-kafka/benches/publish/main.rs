//! How fast messages are published, beside librdkafka's own futures.
//!
//! ```text
//! cargo bench -p watermill-kafka --features apache-kafka --bench kafka_publish -- [--json] [part of a figure's name]
//! ```
//!
//! The server is the one that tests use: `cargo xtask services up kafka`.

mod ours;
mod raw;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use watermill_core::Subscriber as _;
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const PARTITIONS: i32 = 4;
/// Messages of one call.
const CALL: usize = 100;
/// Rounds, in which ours and raw take turns, so that what else the machine does hits both.
const ROUNDS: usize = 7;

/// Callers that publish at once, and the messages of all of them together.
struct Load {
    name: &'static str,
    callers: usize,
    messages: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "kafka-publish/1-caller", callers: 1, messages: 60_000 },
    Load { name: "kafka-publish/8-callers", callers: 8, messages: 160_000 },
];

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let brokers = Service::KAFKA.url();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let topic = topic(&runtime, &brokers);
    let raw = raw::Raw::new(&brokers, &topic);
    let ours = ours::Ours::new(&brokers, &topic);

    let mut figures = Figures::from_args();
    for load in LOADS {
        if filter.as_ref().is_some_and(|filter| !load.name.contains(filter.as_str())) {
            continue;
        }
        let (mut raw_rates, mut our_rates) = (Vec::new(), Vec::new());
        let per_second = |took: Duration| workload::per_second(load.messages, took);
        for _ in 0..ROUNDS {
            raw_rates.push(per_second(runtime.block_on(raw.publish(&load))));
            our_rates.push(per_second(runtime.block_on(ours.publish(&load))));
        }
        let figure = Figure::new(load.name, workload::middle(our_rates), "messages per second");
        figures.push(figure.baseline(workload::middle(raw_rates)).limit(Limit::AtLeast(1.0)));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

fn topic(runtime: &Runtime, brokers: &str) -> String {
    let topic = unique("bench");
    let config = KafkaSubscriberConfig::new(brokers).create_topics(CreateTopics::new(PARTITIONS, 1));
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    runtime.block_on(subscriber.initialize(&topic)).expect("the topic is made");
    topic
}
