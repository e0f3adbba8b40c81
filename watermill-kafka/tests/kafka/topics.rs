//! Topics that are missing, and topics that are made.

use watermill_core::{Subscriber as _, error::SubscribeErrorKind};
use watermill_kafka::{CreateTopics, KafkaSubscriberConfig};
use watermill_testkit::unique;

use crate::support::{brokers, config, messages, next, partitions, publish, subscriber, take, within};

#[tokio::test]
async fn a_missing_topic_is_an_error_that_says_so() {
    let topic = unique("missing");
    let subscriber = subscriber(KafkaSubscriberConfig::new(brokers()).group("g"));
    for refused in [
        within("subscribe", subscriber.subscribe(&topic)).await.err(),
        within("initialize", subscriber.initialize(&topic)).await.err(),
    ] {
        let error = refused.expect("there is no such topic");
        assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error}");
        assert!(error.to_string().contains("create_topics"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_missing_dead_letter_topic_is_an_error_before_anything_is_read() {
    let topic = crate::support::topic(1).await;
    let config = KafkaSubscriberConfig::new(brokers()).group("g").dead_letter_topic(unique("missing"));
    let error = within("subscribe", subscriber(config).subscribe(&topic)).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error}");
    assert!(error.to_string().contains("dead-letter topic"), "{error}");
}

#[tokio::test]
async fn a_dead_letter_topic_that_somebody_deletes_is_made_again_where_topics_are() {
    let (topic, dead) = (crate::support::topic(1).await, unique("dead"));
    let config =
        config().group(unique("group")).dead_letter_topic(&dead).create_topics(CreateTopics::new(3, 1));
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("both are there");
    crate::remade::delete(&dead).await;
    within("it is gone", async { while partitions(&dead).await > 0 {} }).await;
    publish(&topic, &messages(0..1, 1)).await;
    next(&mut subscription).await.reject("no");
    within("it is made", async { while partitions(&dead).await != 3 {} }).await;
    let mut letters = subscriber(crate::support::config()).subscribe(&dead).await.expect("it subscribes");
    assert_eq!(take(&mut letters, 1).await, ["0000"]);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_an_error_that_may_be_tried_again() {
    let config =
        KafkaSubscriberConfig::new("127.0.0.1:1").request_timeout(std::time::Duration::from_millis(200));
    let error = within("subscribe", subscriber(config).subscribe("orders")).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_topic_is_made_on_demand_with_the_partitions_asked_for() {
    let topic = unique("made");
    let config = config().group(unique("group")).create_topics(CreateTopics::new(5, 1));
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("the topic is made");
    assert_eq!(partitions(&topic).await, 5);
    publish(&topic, &messages(0..20, 20)).await;
    assert_eq!(take(&mut subscription, 20).await.len(), 20);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn a_delivery_says_where_it_came_from() {
    let topic = crate::support::topic(1).await;
    publish(&topic, &messages(0..2, 1)).await;
    let mut subscription = subscriber(config().group("told")).subscribe(&topic).await.expect("it subscribes");
    next(&mut subscription).await.ack();
    let second = next(&mut subscription).await;
    let info = second.info();
    assert_eq!((info.topic(), info.group()), (&*topic, Some("told")));
    assert_eq!((info.partition(), info.offset(), info.attempt()), (Some(0), Some(1), 1));
    assert!(info.age().is_some_and(|age| age < watermill_testkit::patience()), "{:?}", info.published_at());
    second.ack();
    subscription.close().await.expect("it closes");
}
