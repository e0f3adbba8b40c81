//! On Google's emulator: the wire beside Google's client by hand, subscriptions and their options, a restart.

mod restart;
mod subscriptions;
mod wire;

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{Delivery, Subscription};
use watermill_gcp::{PubSubAccess, PubSubPublisher, PubSubPublisherConfig};
use watermill_testkit::{Service, unique};

/// Where everything is the test's own: the emulator takes any project.
fn access() -> PubSubAccess {
    PubSubAccess::new(unique("project")).emulator(Service::PUBSUB.url())
}

async fn publisher(access: &PubSubAccess) -> PubSubPublisher {
    let config = PubSubPublisherConfig::new(access.clone()).create_topics(true);
    PubSubPublisher::new(config).await.expect("a valid config")
}

/// The next delivery. The emulator ends a stream with `UNKNOWN` now and then, which is said and mended.
async fn next(subscription: &mut Subscription) -> Delivery {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await;
        match next.expect("in time").expect("the stream goes on") {
            Ok(delivery) => return delivery,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}
