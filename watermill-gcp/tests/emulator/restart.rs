//! The emulator is killed and starts again with nothing: topics and subscriptions are made anew, and everybody
//! goes on.

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{Backoff, Message, Publisher, Subscriber, subscription::Health};
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
    PubSubSubscriberConfig,
};
use watermill_testkit::{PrivateServer, Service};

use crate::next;

#[tokio::test(flavor = "multi_thread")]
async fn reading_and_publishing_go_on_after_the_emulator_was_killed() {
    let server = PrivateServer::start(Service::PUBSUB);
    let access = PubSubAccess::new("project").emulator(server.url());
    let soon = Backoff::constant(Duration::from_millis(100));
    let publishing = PubSubPublisherConfig::new(access.clone())
        .create_topics(true)
        .retry(soon)
        .delivery_timeout(Duration::from_secs(5));
    let publisher = PubSubPublisher::new(publishing).await.unwrap();
    let reading = PubSubSubscriberConfig::new(access)
        .create_topics(true)
        .create_subscriptions(NewSubscription::new())
        .probe_interval(Duration::from_millis(500))
        .request_timeout(Duration::from_secs(5))
        .retry(soon);
    let subscriber = PubSubSubscriber::new(reading).await.unwrap();
    let mut orders = subscriber.subscribe("orders").await.unwrap();
    publisher.publish("orders", vec![Message::with_id("before", "1")]).await.unwrap();
    next(&mut orders).await.ack();

    server.kill();
    // It shows, without a message and without an error.
    while orders.status().health == Health::Healthy {
        let _ = tokio::time::timeout(Duration::from_millis(50), orders.next()).await;
    }
    server.start_again();

    // What is published meanwhile may be lost with the server's memory: it is published until it arrives.
    let arrived = loop {
        let sent = publisher.publish("orders", vec![Message::with_id("after", "2")]).await;
        assert!(sent.as_ref().err().is_none_or(|error| error.is_retryable()), "{sent:?}");
        match tokio::time::timeout(Duration::from_millis(500), orders.next()).await {
            Ok(Some(Ok(delivery))) => break delivery,
            Ok(Some(Err(error))) => assert!(error.is_retryable(), "{error}"),
            Ok(None) => panic!("the stream goes on"),
            Err(_) => {}
        }
    };
    assert_eq!(arrived.id(), "after");
    arrived.ack();
    assert_eq!(orders.status().health, Health::Healthy);
    orders.close().await.unwrap();
}
