//! What comes in order, and who gets what was nacked.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use watermill_core::{Publisher, Subscriber, Window};
use watermill_nats::{NatsPublisherConfig, NatsSubscriberConfig};
use watermill_testkit::unique;

use crate::{eventually, messages, next, publisher, subscriber};

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_an_ordered_group_together_keep_the_order_whatever_fails() {
    const MESSAGES: usize = 60;
    let topic = unique("topic");
    publisher(NatsPublisherConfig::default()).await.publish(&topic, messages(MESSAGES)).await.unwrap();
    let (acked, failed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(HashSet::new())));
    let mut members = Vec::new();
    for _ in 0..3 {
        let subscriber = subscriber(NatsSubscriberConfig::new("g").ordered(true)).await;
        let mut subscription = subscriber.subscribe(&topic).await.unwrap();
        let (acked, failed) = (acked.clone(), failed.clone());
        members.push(tokio::spawn(async move {
            while let Some(Ok(delivery)) = futures::StreamExt::next(&mut subscription).await {
                let id: usize = delivery.id().as_str().parse().unwrap();
                if id.is_multiple_of(5) && failed.lock().unwrap().insert(id) {
                    delivery.nack_after(Duration::from_millis(20));
                    continue;
                }
                acked.lock().unwrap().push(id);
                delivery.ack();
            }
        }));
    }
    eventually("all are acked", || acked.lock().unwrap().len() >= MESSAGES).await;
    members.iter().for_each(|member| member.abort());
    assert_eq!(*acked.lock().unwrap(), (0..MESSAGES).collect::<Vec<_>>());
}

#[tokio::test]
async fn in_an_unordered_window_a_nacked_message_goes_back_to_the_server_with_its_delay() {
    let topic = unique("topic");
    publisher(NatsPublisherConfig::default()).await.publish(&topic, messages(1)).await.unwrap();
    let group = subscriber(NatsSubscriberConfig::new("g")).await;
    let mut one = group.subscribe(&topic).await.unwrap();
    one.set_window(Window::unordered(2.try_into().unwrap()));
    next(&mut one).await.nack_after(Duration::from_millis(200));
    one.close().await.unwrap();
    // Its first reader has gone, and the server still has it.
    let mut other = group.subscribe(&topic).await.unwrap();
    let delivery = next(&mut other).await;
    assert_eq!((delivery.id().as_str(), delivery.info().attempt()), ("0", 2));
    delivery.ack();
    other.close().await.unwrap();
}

#[tokio::test]
async fn what_is_fetched_ahead_is_free_for_others_at_once_when_a_member_leaves() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default()).await;
    publisher.publish(&topic, messages(20)).await.unwrap();
    let group = subscriber(NatsSubscriberConfig::new("g").ack_wait(Duration::from_secs(600))).await;
    let mut leaver = group.subscribe(&topic).await.unwrap();
    next(&mut leaver).await.ack();
    leaver.close().await.unwrap();
    // Long before `ack_wait`.
    let mut heir = group.subscribe(&topic).await.unwrap();
    let mut ids = HashSet::new();
    while ids.len() < 19 {
        let delivery = next(&mut heir).await;
        ids.insert(delivery.id().to_string());
        delivery.ack();
    }
    assert!(!ids.contains("0"));
    heir.close().await.unwrap();
}
