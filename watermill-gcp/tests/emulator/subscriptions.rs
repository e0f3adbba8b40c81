//! Subscriptions: made at once by many, used as they are, with a dead-letter policy, with exactly-once delivery.

use std::time::Duration;

use futures::future::join_all;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::SubscriptionAdmin;
use watermill_core::{Message, Publisher, Subscriber, error::SubscribeErrorKind};
use watermill_gcp::{NewSubscription, PubSubAccess, PubSubSubscriber, PubSubSubscriberConfig};
use watermill_testkit::Service;

use crate::{access, next, publisher};

async fn subscriber(access: &PubSubAccess, new: NewSubscription) -> PubSubSubscriber {
    let config = PubSubSubscriberConfig::new(access.clone()).create_topics(true).create_subscriptions(new);
    PubSubSubscriber::new(config).await.expect("a valid config")
}

#[tokio::test]
async fn many_may_make_the_same_topic_and_subscription_at_once() {
    let access = access();
    let subscribers = join_all((0..8).map(|_| subscriber(&access, NewSubscription::new()))).await;
    let publishers = join_all((0..8).map(|_| publisher(&access))).await;
    let subscribing = join_all(subscribers.iter().map(|subscriber| subscriber.initialize("orders")));
    let publishing =
        join_all(publishers.iter().map(|publisher| publisher.publish("orders", vec![Message::new("x")])));
    let (subscribed, published) = tokio::join!(subscribing, publishing);
    subscribed.into_iter().for_each(|made| made.expect("who makes it meanwhile is not in the way"));
    published.into_iter().for_each(|published| published.expect("it is accepted"));
}

#[tokio::test]
async fn a_missing_subscription_is_named_where_none_is_made() {
    let subscriber = PubSubSubscriber::new(PubSubSubscriberConfig::new(access())).await.unwrap();
    let error = subscriber.subscribe("orders").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic);
    assert!(error.to_string().contains("\"orders\""), "{error}");
}

#[tokio::test]
async fn a_subscription_is_made_with_every_option() {
    let access = access();
    let new = NewSubscription::new()
        .ack_deadline(Duration::from_secs(42))
        .ordered(true)
        .exactly_once(true)
        .filter("attributes:kind")
        .dead_letters("dead", 7)
        .retry(Duration::from_secs(3), Duration::from_secs(99));
    subscriber(&access, new).await.initialize("orders").await.unwrap();
    let admin = SubscriptionAdmin::builder()
        .with_endpoint(format!("http://{}", Service::PUBSUB.url()))
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .unwrap();
    let name = format!("projects/{}/subscriptions/orders", access.project());
    let made = admin.get_subscription().set_subscription(name).send().await.unwrap();
    assert_eq!(made.topic, format!("projects/{}/topics/orders", access.project()));
    assert_eq!((made.ack_deadline_seconds, made.filter.as_str()), (42, "attributes:kind"));
    assert!(made.enable_message_ordering && made.enable_exactly_once_delivery);
    let dead_letters = made.dead_letter_policy.unwrap();
    assert_eq!(dead_letters.dead_letter_topic, format!("projects/{}/topics/dead", access.project()));
    assert_eq!(dead_letters.max_delivery_attempts, 7);
    let retry = made.retry_policy.unwrap();
    let seconds = |wait: Option<google_cloud_wkt::Duration>| wait.unwrap().seconds();
    assert_eq!((seconds(retry.minimum_backoff), seconds(retry.maximum_backoff)), (3, 99));
}

/// Without order: where there is, the emulator ends the stream instead, see `tests/scripted/admin.rs` for that.
#[tokio::test]
async fn the_service_counts_attempts_and_moves_a_message_away_after_the_last() {
    let access = access();
    let plain = subscriber(&access, NewSubscription::new()).await;
    plain.initialize("dead").await.unwrap();
    let counting = subscriber(&access, NewSubscription::new().ordered(false).dead_letters("dead", 5)).await;
    assert!(counting.capabilities().attempts && counting.capabilities().dead_letters);
    let mut orders = counting.subscribe("orders").await.unwrap();
    let messages = ["1", "2"].map(|id| Message::with_id(id, "x").with_key("key"));
    publisher(&access).await.publish("orders", messages[..1].to_vec()).await.unwrap();
    for attempt in 1..=5 {
        let delivery = next(&mut orders).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), ("1", attempt));
        delivery.nack();
    }
    let mut dead = plain.subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(letter.id(), "1");
    letter.ack();
    dead.close().await.unwrap();
    publisher(&access).await.publish("orders", messages[1..].to_vec()).await.unwrap();
    let behind = next(&mut orders).await;
    assert_eq!((behind.id().as_str(), behind.info().attempt()), ("2", 1));
    behind.ack();
    orders.close().await.unwrap();
}

#[tokio::test]
async fn an_exactly_once_subscription_confirms_its_acks() {
    let access = access();
    let exactly_once = subscriber(&access, NewSubscription::new().exactly_once(true)).await;
    let mut orders = exactly_once.subscribe("orders").await.unwrap();
    publisher(&access).await.publish("orders", vec![Message::with_id("1", "x")]).await.unwrap();
    next(&mut orders).await.ack_confirmed().await.expect("the service has it");
    orders.close().await.unwrap();
}
