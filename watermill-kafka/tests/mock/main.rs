//! Behaviour that needs no server, on librdkafka's mock cluster.

mod dead_letters;
mod faults;
mod groups;
mod payloads;
mod wire;

#[path = "../mock_cluster/mod.rs"]
mod mock_cluster;

use futures::StreamExt;
use watermill_core::{Delivery, Subscriber as _, Subscription};
use watermill_kafka::{KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{patience, unique};

/// A topic of the shared cluster.
fn topic() -> String {
    let topic = unique("topic");
    mock_cluster::create(&topic);
    topic
}

/// Without a group, which needs no time to join.
async fn subscribe(config: KafkaSubscriberConfig, topic: &str) -> Subscription {
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    subscriber.subscribe(topic).await.expect("it subscribes")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = tokio::time::timeout(patience(), subscription.next()).await.expect("a delivery comes");
    next.expect("the stream goes on").expect("the stream has no error")
}
