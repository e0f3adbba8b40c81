//! Subscriptions to the scripted server.

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{Backoff, Delivery, Subscriber, Subscription};
use watermill_gcp::{PubSubSubscriber, PubSubSubscriberConfig};

use crate::server::Server;

pub(crate) const INVALID_ARGUMENT: i32 = 3;
pub(crate) const PERMISSION_DENIED: i32 = 7;
pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
pub(crate) const FAILED_PRECONDITION: i32 = 9;
pub(crate) const UNAVAILABLE: i32 = 14;

/// That waits for nothing.
pub(crate) fn config(server: &Server) -> PubSubSubscriberConfig {
    PubSubSubscriberConfig::new(server.access()).retry(Backoff::constant(Duration::from_millis(1)))
}

pub(crate) async fn subscribe(server: &Server) -> Subscription {
    subscribe_with(config(server)).await
}

pub(crate) async fn subscribe_with(config: PubSubSubscriberConfig) -> Subscription {
    let subscriber = PubSubSubscriber::new(config).await.expect("a valid config");
    subscriber.subscribe("topic").await.expect("it may look at nothing and reads all the same")
}

pub(crate) async fn next(subscription: &mut Subscription) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await;
    next.expect("in time").expect("the stream goes on").expect("a delivery")
}
