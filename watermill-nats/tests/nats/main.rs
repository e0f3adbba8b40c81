//! What only NATS does: consumers, streams, acks, and what goes wrong with a server.

mod faults;
mod interop;
mod order;
mod raw;
mod streams;
mod tls;

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use futures::StreamExt as _;
use tokio::time::{Duration, sleep, timeout};
use watermill_core::{Delivery, Message, Subscription};
use watermill_nats::{NatsPublisher, NatsPublisherConfig, NatsSubscriber, NatsSubscriberConfig};
use watermill_testkit::{Service, patience};

async fn client() -> Client {
    async_nats::connect(Service::NATS.url()).await.unwrap()
}

async fn raw() -> Context {
    jetstream::new(client().await)
}

async fn publisher(config: NatsPublisherConfig) -> NatsPublisher {
    NatsPublisher::new(client().await, config).unwrap()
}

async fn subscriber(config: NatsSubscriberConfig) -> NatsSubscriber {
    NatsSubscriber::new(client().await, config).unwrap()
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|n| Message::with_id(n.to_string(), "x")).collect()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(patience(), work).await.expect("it comes in time")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    in_time(subscription.next()).await.expect("the stream goes on").expect("there is no error")
}

/// The next delivery, whatever goes wrong before it.
async fn next_in_trouble(subscription: &mut Subscription) -> Delivery {
    loop {
        if let Ok(delivery) = in_time(subscription.next()).await.expect("the stream goes on") {
            return delivery;
        }
    }
}

/// Looks until something is so that nobody tells of.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(patience(), looking).await.unwrap_or_else(|_| panic!("{what}, in time"));
}
