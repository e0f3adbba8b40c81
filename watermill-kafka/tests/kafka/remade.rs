//! Logs that go back: a topic that was deleted and made again.

use futures::StreamExt;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use watermill_core::{Delivery, Subscriber as _, Subscription, error::SettleErrorKind};
use watermill_kafka::KafkaSubscriberConfig;
use watermill_testkit::unique;

use crate::support::{
    brokers, config, messages, next, ordered, partitions, publish, quiet, subscriber, take, topic, within,
};

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client")
}

/// Deletes a topic; brokers let go of it a moment later.
pub(crate) async fn delete(topic: &str) {
    let deleted = admin().delete_topics(&[topic], &AdminOptions::new()).await;
    deleted.expect("the broker answers")[0].as_ref().expect("it goes");
}

/// Deletes a topic and makes it again, empty.
pub(crate) async fn remake(topic: &str) {
    delete(topic).await;
    let (admin, options) = (admin(), AdminOptions::new());
    let made = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    within("the topic is made again", async {
        // Its name is free once the brokers have let go of it.
        while admin.create_topics([&made], &options).await.expect("the broker answers")[0].is_err() {}
        while partitions(topic).await != 1 {}
    })
    .await;
}

/// The next delivery, and what the stream has said before it.
async fn next_with_trouble(subscription: &mut Subscription, said: &mut Vec<String>) -> Delivery {
    loop {
        match within("the next delivery", subscription.next()).await.expect("the stream goes on") {
            Ok(delivery) => return delivery,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                said.push(error.to_string());
            }
        }
    }
}

/// Reads 50 records, has the topic made anew, and reads 20 more: the topic, and what the stream has said.
async fn a_remade_topic_is_read_from_its_beginning(config: KafkaSubscriberConfig) -> (String, Vec<String>) {
    let topic = topic(1).await;
    publish(&topic, &messages(0..50, 1)).await;
    let reader = subscriber(config);
    let mut subscription = reader.subscribe(&topic).await.expect("it subscribes");
    subscription.set_window(ordered(2));
    take(&mut subscription, 48).await;
    next(&mut subscription).await.ack_confirmed().await.expect("it is recorded");
    let in_hand = next(&mut subscription).await;

    remake(&topic).await;
    publish(&topic, &messages(50..70, 1)).await;
    let mut said = Vec::new();
    for number in 50..70 {
        let delivery = next_with_trouble(&mut subscription, &mut said).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), (&*format!("{number:04}"), 1));
        delivery.ack_confirmed().await.expect("it is recorded");
    }
    assert!(in_hand.info().cancellation().is_cancelled(), "what was in hand is lost");
    let refused = in_hand.ack_confirmed().await.expect_err("it is of another log");
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    subscription.close().await.expect("it closes");
    (topic, said)
}

#[tokio::test]
async fn records_of_a_topic_that_was_made_anew_are_read_without_a_group() {
    let (_, said) = a_remade_topic_is_read_from_its_beginning(config()).await;
    assert!(said.iter().any(|said| said.contains("gone back from offset 50 to 0")), "{said:?}");
}

#[tokio::test]
async fn records_of_a_topic_that_was_made_anew_are_read_by_its_group() {
    let config = config().group(unique("group"));
    // The group may have heard that the topic was gone, and have taken the partition back before.
    let (topic, _) = a_remade_topic_is_read_from_its_beginning(config.clone()).await;
    publish(&topic, &messages(70..71, 1)).await;
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 1).await, ["0070"], "the group has its place in the new log");
    quiet(&mut subscription).await;
    subscription.close().await.expect("it closes");
}
