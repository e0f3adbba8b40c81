//! How fast messages go to a stream of Redis and come from it, beside its client used by hand for the same work.
//!
//! ```text
//! cargo bench -p watermill-redis --features redis-server --bench redis -- [--json] [part of a figure's name]
//! ```
//!
//! The server is the one that tests use: `cargo xtask services up redis`.

mod ours;
mod raw;

use std::time::Duration;

use redis::Client;
use tokio::runtime::Builder;
use watermill_core::{Publisher as _, Subscriber as _};
use watermill_redis::{RedisPublisher, RedisPublisherConfig, RedisSubscriber, RedisSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 50_000;
/// Messages of one call.
const CALL: usize = 100;
/// Calls on their way at once.
const CALLS: usize = 4;
/// Rounds, in which all take turns, so that what else the machine does hits all.
const ROUNDS: usize = 5;
const GROUP: &str = "bench";

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let client = Client::open(Service::REDIS.url()).expect("a URL");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures = Figures::from_args();
    let rate = |mut times: Vec<Duration>| {
        times.sort_unstable();
        workload::per_second(MESSAGES, times[times.len() / 2])
    };
    let figure = |name: &str, ours: Vec<Duration>, raw: Vec<Duration>, limit| {
        Figure::new(name, rate(ours), "messages per second").baseline(rate(raw)).limit(Limit::AtLeast(limit))
    };
    if wanted("redis/publish") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::publish(&client)));
            ours.push(runtime.block_on(ours::publish(&client)));
        }
        figures.push(figure("redis/publish", ours, raw, 0.85));
    }
    if wanted("redis/subscribe") || wanted("redis/router") {
        let (mut ours, mut router, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(raw::subscribe(&client)));
            ours.push(runtime.block_on(ours::subscribe(&client)));
            router.push(runtime.block_on(ours::router(&client)));
        }
        figures.push(figure("redis/subscribe", ours, raw.clone(), 0.85));
        figures.push(figure("redis/router", router, raw, 0.7));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

fn publisher(client: &Client) -> RedisPublisher {
    RedisPublisher::new(client.clone(), RedisPublisherConfig::default()).expect("a valid config")
}

fn subscriber(client: &Client) -> RedisSubscriber {
    RedisSubscriber::new(client.clone(), RedisSubscriberConfig::new(GROUP)).expect("a valid config")
}

/// A stream with a group and all messages in it.
async fn full(client: &Client) -> String {
    let topic = unique("topic");
    subscriber(client).initialize(&topic).await.expect("it is made");
    let publisher = publisher(client);
    for messages in workload::calls(MESSAGES, CALL) {
        publisher.publish(&topic, messages).await.expect("it is accepted");
    }
    topic
}

/// Ends it, so that the server holds one at a time.
async fn remove(client: &Client, topic: &str) {
    let mut connection = client.get_multiplexed_async_connection().await.expect("it is there");
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(topic).exec_async(&mut connection).await.expect("it goes");
}
