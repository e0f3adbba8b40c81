//! How subscriptions, subscribers and publishers end.

use futures::{StreamExt, poll};
use watermill_core::{
    MemoryBroker, Publisher, Subscriber,
    error::{PublishErrorKind, SubscribeErrorKind},
};

use crate::{TOPIC, drain, messages, next, publish, with_capacity};

#[tokio::test]
async fn stopping_intake_ends_the_stream_and_leaves_deliveries_to_be_settled() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut subscription = group.subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let one = next(&mut subscription).await;
    subscription.stop_intake();
    assert!(subscription.next().await.is_none());
    one.ack_confirmed().await.unwrap();
    subscription.close().await.unwrap();
    let mut successor = group.subscribe(TOPIC).await.unwrap();
    let two = next(&mut successor).await;
    assert_eq!((&**two.id(), two.info().attempt()), ("2", 1));
    two.ack();
}

#[tokio::test]
async fn closing_the_subscriber_wakes_a_sleeping_reader() {
    let broker = MemoryBroker::new();
    let subscriber = broker.subscriber();
    let mut subscription = subscriber.subscribe(TOPIC).await.unwrap();
    let reader = tokio::spawn(async move { subscription.next().await.is_none() });
    tokio::task::yield_now().await;
    subscriber.close().await.unwrap();
    assert!(reader.await.unwrap());
}

#[tokio::test]
async fn closing_one_value_leaves_the_others_open() {
    let broker = MemoryBroker::new();
    let (closed, open) = (broker.subscriber(), broker.subscriber());
    let mut ended = closed.subscribe(TOPIC).await.unwrap();
    let mut running = open.subscribe(TOPIC).await.unwrap();
    closed.close().await.unwrap();
    closed.close().await.unwrap();
    assert!(ended.next().await.is_none());
    assert_eq!(closed.subscribe(TOPIC).await.unwrap_err().kind(), SubscribeErrorKind::Closed);
    let publisher = broker.publisher();
    publisher.close().await.unwrap();
    publisher.close().await.unwrap();
    let error = publisher.publish(TOPIC, messages([1])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Closed);
    publish(&broker, [2]).await;
    assert_eq!(drain(&mut running), ["2"]);
}

#[tokio::test]
async fn closing_a_publisher_waits_for_calls_that_wait_for_room() {
    let broker = with_capacity(1);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut second = publisher.publish(TOPIC, messages([2]));
    assert!(poll!(&mut second).is_pending());
    let mut closing = publisher.close();
    assert!(poll!(&mut closing).is_pending());
    assert_eq!(drain(&mut subscription), ["1", "2"]);
    second.await.unwrap();
    closing.await.unwrap();
}
