//! How fast messages go to RabbitMQ and come from it, beside lapin used by hand for the same work, as well as it can be.
//!
//! ```text
//! cargo bench -p watermill-amqp --features rabbitmq-server --bench amqp -- [--json] [part of a figure's name]
//! ```
//!
//! The server is the one that tests use: `cargo xtask services up rabbitmq`.

mod ours;
mod raw;

use std::time::Duration;

use tokio::runtime::Builder;
use watermill_amqp::{AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology};
use watermill_core::{Publisher as _, Subscriber as _};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 20_000;
/// Messages of one call.
const CALL: usize = 100;
/// What the server sends ahead, to both.
const PREFETCH: u16 = 1_000;
/// Rounds, in which all take turns, so that what else the machine does hits all.
const ROUNDS: usize = 5;

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures = Figures::from_args();
    let rate =
        |times: &[Duration]| workload::middle(times.iter().map(|took| workload::per_second(MESSAGES, *took)));
    let figure = |name: &str, ours: &[Duration], raw: &[Duration], limit| {
        Figure::new(name, rate(ours), "messages per second").baseline(rate(raw)).limit(Limit::AtLeast(limit))
    };
    if wanted("amqp/publish") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::publish()));
            ours.push(runtime.block_on(ours::publish()));
        }
        figures.push(figure("amqp/publish", &ours, &raw, 0.85));
    }
    if wanted("amqp/subscribe") || wanted("amqp/router") {
        let (mut ours, mut router, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::subscribe()));
            ours.push(runtime.block_on(ours::subscribe()));
            router.push(runtime.block_on(ours::router()));
        }
        figures.push(figure("amqp/subscribe", &ours, &raw, 0.85));
        figures.push(figure("amqp/router", &router, &raw, 0.7));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

/// A queue with `count` messages in it.
pub(crate) async fn queue(count: usize) -> String {
    let topic = unique("bench");
    subscriber().initialize(&topic).await.expect("it is made");
    let publisher = publisher();
    for messages in workload::calls(count, CALL) {
        publisher.publish(&topic, messages).await.expect("it is accepted");
    }
    publisher.close().await.expect("it closes");
    topic
}

pub(crate) fn publisher() -> AmqpPublisher {
    let config = AmqpPublisherConfig::new(Service::RABBITMQ.url(), Topology::queue());
    AmqpPublisher::new(config).expect("a valid config")
}

pub(crate) fn subscriber() -> AmqpSubscriber {
    let config = AmqpSubscriberConfig::new(Service::RABBITMQ.url(), Topology::queue());
    AmqpSubscriber::new(config.fetch_ahead(PREFETCH.into())).expect("a valid config")
}
