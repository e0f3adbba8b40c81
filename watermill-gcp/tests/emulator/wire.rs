//! What is written is what Google's client reads, and the other way round, to the byte.

use std::time::SystemTime;

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::{
    client::{Publisher as RawPublisher, Subscriber as RawSubscriber},
    model::Message as Native,
    subscriber::MessageStream,
};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubDelivery, PubSubSubscriber, PubSubSubscriberConfig,
};
use watermill_testkit::Service;

use crate::{access, next, publisher};

fn endpoint() -> String {
    format!("http://{}", Service::PUBSUB.url())
}

async fn raw_publisher(access: &PubSubAccess, topic: &str) -> RawPublisher {
    RawPublisher::builder(format!("projects/{}/topics/{topic}", access.project()))
        .with_endpoint(endpoint())
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .unwrap()
}

async fn raw_stream(access: &PubSubAccess, subscription: &str) -> MessageStream {
    let raw = RawSubscriber::builder()
        .with_endpoint(endpoint())
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .unwrap();
    raw.subscribe(format!("projects/{}/subscriptions/{subscription}", access.project())).build()
}

#[tokio::test]
async fn attributes_and_ordering_keys_are_the_same_for_googles_client_in_both_directions() {
    let access = access();
    let config = PubSubSubscriberConfig::new(access.clone())
        .create_topics(true)
        .create_subscriptions(NewSubscription::new());
    let subscriber = PubSubSubscriber::new(config).await.unwrap();
    subscriber.initialize("orders").await.unwrap();
    subscriber.in_group("raw").unwrap().initialize("orders").await.unwrap();

    // Ours, read by hand.
    let bytes: Vec<u8> = (0..=255).collect();
    let ours = Message::with_id("id-1", bytes.clone())
        .with_key("customer-7")
        .with_metadata("name", "größe")
        .with_metadata("empty", "");
    publisher(&access).await.publish("orders", vec![ours.clone()]).await.unwrap();
    let mut stream = raw_stream(&access, "orders_raw").await;
    let (native, handler) = stream.next().await.unwrap().unwrap();
    assert_eq!(native.data, bytes);
    assert_eq!(native.ordering_key, "customer-7");
    let mut attributes: Vec<_> = native.attributes.into_iter().collect();
    attributes.sort_unstable();
    let expected = [("_watermill_message_uuid", "id-1"), ("empty", ""), ("name", "größe")];
    assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    handler.ack();

    // By hand, as Go writes it, read by us.
    let by_hand = raw_publisher(&access, "orders").await;
    let native = Native::new()
        .set_data(bytes.clone())
        .set_attributes([("_watermill_message_uuid", "id-2"), ("correlation_id", "c")])
        .set_ordering_key("customer-7");
    let message_id = by_hand.publish(native).await.unwrap();
    let mut subscription = subscriber.subscribe("orders").await.unwrap();
    let first = next(&mut subscription).await;
    assert_eq!(*first.message(), ours);
    first.ack();
    let second = next(&mut subscription).await;
    let expected =
        Message::with_id("id-2", bytes).with_key("customer-7").with_metadata("correlation_id", "c");
    assert_eq!(*second.message(), expected);
    let pubsub = second.extensions().get::<PubSubDelivery>().unwrap();
    assert_eq!(pubsub.message_id, message_id);
    assert!(second.info().published_at().unwrap() <= SystemTime::now() + std::time::Duration::from_secs(60));
    second.ack();
    subscription.close().await.unwrap();
}

/// As much as the service takes: an attribute is the id, and the ordering key is the key.
fn full() -> Message {
    let metadata = (0..98).map(|number| (format!("{number:0>254}ü"), "größe\u{0}".repeat(128)));
    metadata.fold(
        Message::with_id("ü".repeat(512), vec![0xff; 1_000]).with_key("ö".repeat(512)),
        |message, (name, value)| message.with_metadata(name, value),
    )
}

#[tokio::test]
async fn a_message_at_every_limit_is_the_same_for_googles_client_in_both_directions() {
    let access = access();
    let config = PubSubSubscriberConfig::new(access.clone())
        .create_topics(true)
        .create_subscriptions(NewSubscription::new());
    let subscriber = PubSubSubscriber::new(config).await.unwrap();
    subscriber.initialize("orders").await.unwrap();
    subscriber.in_group("raw").unwrap().initialize("orders").await.unwrap();
    publisher(&access).await.publish("orders", vec![full()]).await.unwrap();

    let (native, handler) = raw_stream(&access, "orders_raw").await.next().await.unwrap().unwrap();
    assert_eq!((&native.data[..], &*native.ordering_key), (&full().payload()[..], &*"ö".repeat(512)));
    let mut expected: Vec<_> =
        full().metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    expected.push(("_watermill_message_uuid".to_owned(), "ü".repeat(512)));
    expected.sort_unstable();
    let mut attributes: Vec<_> = native.attributes.clone().into_iter().collect();
    attributes.sort_unstable();
    assert_eq!(attributes, expected);
    handler.ack();

    let again = Native::new()
        .set_data(native.data)
        .set_attributes(native.attributes)
        .set_ordering_key(native.ordering_key);
    raw_publisher(&access, "orders").await.publish(again).await.unwrap();
    let mut subscription = subscriber.subscribe("orders").await.unwrap();
    for _ in 0..2 {
        let delivery = next(&mut subscription).await;
        assert_eq!(*delivery.message(), full());
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_message_with_nothing_but_an_empty_attribute_is_taken() {
    let access = access();
    publisher(&access).await.publish("orders", vec![Message::with_id("", "")]).await.unwrap();
}
