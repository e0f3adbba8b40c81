//! How fast messages go to Pub/Sub, come from it, and go from one topic to another, beside Google's client used
//! by hand for the same work.
//!
//! ```text
//! cargo bench -p watermill-gcp --features emulator --bench gcp -- [--json] [part of a figure's name]
//! ```
//!
//! The server is the emulator that tests use: `cargo xtask services up pubsub`. What is compared is what the two
//! cost in this process and in requests; the service itself is another machine.

mod ours;
mod raw;

use std::time::Duration;

use tokio::runtime::Builder;
use watermill_core::{Publisher as _, Subscriber as _};
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
    PubSubSubscriberConfig,
};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 10_000;
/// Messages of one call.
const CALL: usize = 100;
/// Ordering keys, from topic to topic.
const KEYS: usize = 100;
/// Rounds, in which all take turns, so that what else the machine does hits all.
const ROUNDS: usize = 3;

/// A project of its own, and where the emulator is.
#[derive(Clone)]
pub(crate) struct Place {
    host: String,
    project: String,
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let place = Place { host: Service::PUBSUB.url(), project: unique("bench") };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures = Figures::from_args();
    let rate = |mut times: Vec<Duration>| {
        times.sort_unstable();
        workload::per_second(MESSAGES, times[times.len() / 2])
    };
    let figure = |name: &str, ours: Vec<Duration>, raw: Vec<Duration>, limit| {
        Figure::new(name, rate(ours), "messages per second").baseline(rate(raw)).limit(Limit::AtLeast(limit))
    };
    if wanted("gcp/publish") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::publish(&place)));
            ours.push(runtime.block_on(ours::publish(&place)));
        }
        figures.push(figure("gcp/publish", ours, raw, 0.95));
    }
    if wanted("gcp/subscribe") || wanted("gcp/router") {
        let (mut ours, mut router, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::subscribe(&place)));
            ours.push(runtime.block_on(ours::subscribe(&place)));
            router.push(runtime.block_on(ours::router(&place)));
        }
        figures.push(figure("gcp/subscribe", ours, raw.clone(), 0.95));
        figures.push(figure("gcp/router", router, raw, 0.8));
    }
    if wanted("gcp/topics") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::move_all(&place)));
            ours.push(runtime.block_on(ours::move_all(&place)));
        }
        figures.push(figure("gcp/topics", ours, raw, 0.5));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

impl Place {
    fn access(&self) -> PubSubAccess {
        PubSubAccess::new(&*self.project).emulator(&*self.host)
    }

    /// A topic with a subscription of its name, `count` messages in it.
    pub(crate) async fn topic(&self, count: usize, keys: Option<usize>) -> String {
        let topic = unique("topic");
        self.subscriber().await.initialize(&topic).await.expect("it is made");
        let publisher = self.publisher().await;
        for (call, messages) in workload::calls(count, CALL).enumerate() {
            let messages = messages.into_iter().enumerate().map(|(at, message)| match keys {
                Some(keys) => message.with_key(format!("key-{}", (call * CALL + at) % keys)),
                None => message,
            });
            publisher.publish(&topic, messages.collect()).await.expect("it is accepted");
        }
        topic
    }

    pub(crate) async fn publisher(&self) -> PubSubPublisher {
        let config = PubSubPublisherConfig::new(self.access()).create_topics(true);
        PubSubPublisher::new(config).await.expect("a valid config")
    }

    pub(crate) async fn subscriber(&self) -> PubSubSubscriber {
        let config = PubSubSubscriberConfig::new(self.access())
            .create_topics(true)
            .create_subscriptions(NewSubscription::new());
        PubSubSubscriber::new(config).await.expect("a valid config")
    }
}
