//! Publishing: room, waits for acks, and calls that are dropped.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, poll};
use watermill_core::{
    MemoryBroker, Message, Publisher, Subscriber,
    error::{NotAccepted, PublishErrorKind},
    memory::{History, MemoryConfig},
};

use crate::{TOPIC, broker, drain, messages, next, now, publish, with_capacity};

#[tokio::test]
async fn publish_waits_for_room_and_goes_on_when_there_is_some() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let publisher = broker.publisher();
    let mut third = publisher.publish(TOPIC, messages([3]));
    assert!(poll!(&mut third).is_pending());
    let one = next(&mut subscription).await;
    assert!(poll!(&mut third).is_pending(), "what is outstanding takes room");
    one.ack();
    third.await.unwrap();
    assert_eq!(drain(&mut subscription), ["2", "3"]);
}

#[tokio::test]
async fn waiting_calls_are_accepted_in_the_order_of_their_first_polls() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let publisher = broker.publisher();
    let mut large = publisher.publish(TOPIC, messages([3, 4]));
    let mut small = publisher.publish(TOPIC, messages([5]));
    assert!(poll!(&mut large).is_pending());
    assert!(poll!(&mut small).is_pending());
    next(&mut subscription).await.ack();
    assert!(poll!(&mut small).is_pending(), "there is room for it, but it came later");
    assert!(poll!(&mut large).is_pending());
    assert_eq!(drain(&mut subscription), ["2", "3", "4", "5"]);
    large.await.unwrap();
    small.await.unwrap();
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_publishes_nothing_and_lets_others_pass() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut large = publisher.publish(TOPIC, messages([2, 3]));
    let mut small = publisher.publish(TOPIC, messages([4]));
    assert!(poll!(&mut large).is_pending());
    assert!(poll!(&mut small).is_pending());
    drop(large);
    small.await.unwrap();
    assert_eq!(drain(&mut subscription), ["1", "4"]);
}

#[tokio::test]
async fn a_full_group_keeps_a_call_out_of_every_group() {
    let broker = with_capacity(2);
    let mut slow = broker.subscriber().group("slow").subscribe(TOPIC).await.unwrap();
    let mut fast = broker.subscriber().group("fast").subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    assert_eq!(drain(&mut fast), ["1", "2"]);
    let publisher = broker.publisher();
    let mut third = publisher.publish(TOPIC, messages([3]));
    assert!(poll!(&mut third).is_pending());
    assert!(now(&mut fast).is_none());
    next(&mut slow).await.ack();
    assert_eq!(drain(&mut fast), ["3"]);
    third.await.unwrap();
}

#[tokio::test]
async fn publishers_go_on_when_the_slow_subscription_ends() {
    let broker = with_capacity(1);
    let subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut second = publisher.publish(TOPIC, messages([2]));
    assert!(poll!(&mut second).is_pending());
    drop(subscription);
    second.await.unwrap();
}

#[tokio::test]
async fn a_call_larger_than_a_group_is_refused() {
    let error = with_capacity(2).publisher().publish(TOPIC, messages(0..3)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Refused);
    assert_eq!(error.not_accepted(), &NotAccepted::All);
    assert!(error.to_string().contains("MemoryConfig::capacity"), "{error}");
}

#[tokio::test]
async fn a_publish_that_waits_for_its_ack_blocks_nobody_else() {
    // P22: while one Publish of Go's GoChannel waits for an ack, Subscribe and a Publish to another
    // topic block, too.
    let broker = broker(MemoryConfig::default().publish_waits_for_ack(Some(Duration::from_secs(3600))));
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let publisher = broker.publisher();
    let mut waiting = publisher.publish(TOPIC, messages([1, 2]));
    assert!(poll!(&mut waiting).is_pending());
    let _other = broker.subscriber().subscribe("other").now_or_never().unwrap().unwrap();
    publisher.publish("third", messages([1])).now_or_never().unwrap().unwrap();
    next(&mut subscription).await.nack();
    next(&mut subscription).await.ack();
    assert!(poll!(&mut waiting).is_pending(), "one of two is acked");
    next(&mut subscription).await.reject("not today");
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publish_whose_ack_does_not_come_says_that_the_messages_were_accepted() {
    let broker = broker(MemoryConfig::default().publish_waits_for_ack(Some(Duration::from_secs(5))));
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let error = broker.publisher().publish(TOPIC, messages([1])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Timeout);
    assert_eq!(error.not_accepted(), &NotAccepted::At(Vec::new()));
    assert_eq!(drain(&mut subscription), ["1"]);
}

#[tokio::test]
async fn a_publish_does_not_wait_for_groups_that_have_gone() {
    let config = MemoryConfig::default().history(History::All);
    let broker = broker(config.publish_waits_for_ack(Some(Duration::from_secs(3600))));
    let subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let publisher = broker.publisher();
    let mut waiting = publisher.publish(TOPIC, messages([1]));
    assert!(poll!(&mut waiting).is_pending());
    drop(subscription);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_delivery_that_rides_on_the_message_it_caused_is_settled_without_a_deadlock() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let held = Arc::new(next(&mut subscription).await);
    let message = Message::with_id("2", "2").with_extension(held);
    broker.publisher().publish(TOPIC, vec![message]).await.unwrap();
    assert_eq!(drain(&mut subscription), ["1", "2"]);
}
