//! What the in-memory backend promises beyond the contract of the traits.

use std::num::NonZeroUsize;

use futures::{FutureExt, StreamExt};
use watermill_core::{
    Delivery, MemoryBroker, Message, Publisher, Subscription, Window, memory::MemoryConfig,
};

mod closing;
mod groups;
mod order;
mod publishing;

const TOPIC: &str = "topic";

fn messages(numbers: impl IntoIterator<Item = u32>) -> Vec<Message> {
    numbers.into_iter().map(|number| Message::with_id(number.to_string(), number.to_string())).collect()
}

fn broker(config: MemoryConfig) -> MemoryBroker {
    MemoryBroker::with_config(config).unwrap()
}

fn with_capacity(capacity: usize) -> MemoryBroker {
    broker(MemoryConfig::default().capacity(capacity))
}

fn unordered(size: usize) -> Window {
    Window::unordered(NonZeroUsize::new(size).unwrap())
}

fn ordered(size: usize) -> Window {
    Window::ordered(NonZeroUsize::new(size).unwrap())
}

async fn publish(broker: &MemoryBroker, numbers: impl IntoIterator<Item = u32>) {
    broker.publisher().publish(TOPIC, messages(numbers)).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.expect("the stream goes on").unwrap()
}

/// A delivery that is there already, or `None`.
fn now(subscription: &mut Subscription) -> Option<Delivery> {
    subscription.next().now_or_never().map(|next| next.expect("the stream goes on").unwrap())
}

/// Acks everything that is there, and returns the ids. The stream pauses now and then to let other
/// tasks run, so it is asked once more.
fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(delivery) = now(subscription).or_else(|| now(subscription)) {
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    ids
}
