//! Calls in progress together: their order, their bound, their end.

use std::time::Duration;

use futures::{FutureExt as _, future::join_all};
use watermill_core::{Publisher as _, error::PublishErrorKind};
use watermill_kafka::KafkaPublisher;

use crate::cluster::{Cluster, messages, texts};

#[tokio::test]
async fn calls_in_progress_together_keep_their_order() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    let calls = (0..50).map(|call| publisher.publish(&cluster.topic, messages(call * 10..(call + 1) * 10)));
    for result in join_all(calls).await {
        result.expect("it is accepted");
    }
    assert_eq!(cluster.read(0, 500), texts(0..500));
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_in_their_order() {
    let cluster = Cluster::new(1);
    let config = cluster.config().option("queue.buffering.max.messages", "10");
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let calls = (0..4).map(|call| publisher.publish(&cluster.topic, messages(call * 50..(call + 1) * 50)));
    for result in join_all(calls).await {
        result.expect("it waits rather than fails");
    }
    assert_eq!(cluster.read(0, 200), texts(0..200));
}

#[tokio::test]
async fn closing_waits_for_what_was_queued_by_callers_that_have_gone() {
    let cluster = Cluster::new(1);
    let config = cluster.config().option("linger.ms", "50");
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    // The first message of all waits for the topic's leaders.
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    let call = publisher.publish(&cluster.topic, messages(1..21));
    assert!(call.now_or_never().is_none(), "the broker cannot have answered");
    publisher.close().await.expect("everything is sent");
    assert_eq!(cluster.len(0), 21);
    let error = publisher.publish(&cluster.topic, messages(0..1)).await.expect_err("it was closed");
    assert_eq!(error.kind(), PublishErrorKind::Closed);
}

#[tokio::test]
async fn what_callers_have_given_up_while_brokers_are_away_is_not_published_when_they_are_back() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    cluster.mock.broker_down(1).expect("it goes down");
    let given_up =
        tokio::time::timeout(Duration::from_millis(200), publisher.publish(&cluster.topic, messages(1..51)));
    assert!(given_up.await.is_err(), "nobody is there");
    // A relay gives them back to its source, and the next one publishes them.
    publisher.close().await.expect("it closes, and waits for no broker");
    cluster.mock.broker_up(1).expect("it comes up");
    let successor = cluster.publisher();
    successor.publish(&cluster.topic, messages(1..51)).await.expect("it is accepted");
    drop(publisher);
    assert_eq!(cluster.read(0, 51), texts(0..51));
    successor.close().await.expect("it closes");
    assert_eq!(cluster.len(0), 51, "something was published twice");
}

#[tokio::test]
async fn what_a_relay_takes_back_is_not_sent_when_brokers_are_back_and_the_publisher_goes_on() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    cluster.mock.broker_down(1).expect("it goes down");
    let given_up =
        tokio::time::timeout(Duration::from_millis(200), publisher.publish(&cluster.topic, messages(1..51)));
    assert!(given_up.await.is_err(), "nobody is there");
    publisher.take_back();
    // Another call waits for the next client, behind what was taken back.
    let again = publisher.publish(&cluster.topic, messages(1..3));
    cluster.mock.broker_up(1).expect("it comes up");
    again.await.expect("it is accepted");
    assert_eq!(cluster.read(0, 3), texts(0..3));
    publisher.close().await.expect("it closes");
    assert_eq!(cluster.len(0), 3, "something was sent that was taken back");
}
