//! What is written is what Google's client reads, and the other way round, to the byte.

use std::time::SystemTime;

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::{
    client::{Publisher as RawPublisher, Subscriber as RawSubscriber},
    model::Message as Native,
};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_gcp::{NewSubscription, PubSubDelivery, PubSubSubscriber, PubSubSubscriberConfig};
use watermill_testkit::Service;

use crate::{access, next, publisher};

fn endpoint() -> String {
    format!("http://{}", Service::PUBSUB.url())
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
    let raw = RawSubscriber::builder()
        .with_endpoint(endpoint())
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .unwrap();
    let mut stream = raw.subscribe(format!("projects/{}/subscriptions/orders_raw", access.project())).build();
    let (native, handler) = stream.next().await.unwrap().unwrap();
    assert_eq!(native.data, bytes);
    assert_eq!(native.ordering_key, "customer-7");
    let mut attributes: Vec<_> = native.attributes.into_iter().collect();
    attributes.sort_unstable();
    let expected = [("_watermill_message_uuid", "id-1"), ("empty", ""), ("name", "größe")];
    assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    handler.ack();

    // By hand, as Go writes it, read by us.
    let by_hand = RawPublisher::builder(format!("projects/{}/topics/orders", access.project()))
        .with_endpoint(endpoint())
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .unwrap();
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

#[tokio::test]
async fn a_message_with_nothing_but_an_empty_attribute_is_taken() {
    let access = access();
    publisher(&access).await.publish("orders", vec![Message::with_id("", "")]).await.unwrap();
}
