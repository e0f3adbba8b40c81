//! Groups that cannot be joined, for now and for good.

use futures::StreamExt;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as Code},
};
use tokio::time;
use watermill_core::{
    Delivery, Message, Publisher as _, Subscriber as _, Subscription,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::Health,
};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::patience;

use crate::next;

/// A cluster for one test, with topics that have a message each.
async fn cluster(topics: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(cluster.bootstrap_servers()));
    for topic in topics {
        cluster.create_topic(topic, 1, 1).expect("the topic is made");
        let publisher = publisher.as_ref().expect("a valid config");
        publisher.publish(topic, vec![Message::with_id("1", "x")]).await.expect("it is accepted");
    }
    cluster
}

fn subscriber(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaSubscriber {
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers())
        .group("g")
        .option("heartbeat.interval.ms", "100")
        .option("session.timeout.ms", "3000")
        .option("group.instance.id", "one");
    KafkaSubscriber::new(config).expect("a valid config")
}

/// The next delivery, or trouble.
async fn next_or_trouble(subscription: &mut Subscription) -> Option<Result<Delivery, SubscribeError>> {
    time::timeout(patience(), subscription.next()).await.expect("something comes")
}

#[tokio::test]
async fn a_group_whose_members_disagree_is_joined_when_they_do_not_and_health_says_what_to_do() {
    let cluster = cluster(&["orders"]).await;
    cluster.request_errors(ApiKey::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL; 2]);
    let mut subscription = subscriber(&cluster).subscribe("orders").await.expect("it subscribes");
    let error =
        next_or_trouble(&mut subscription).await.expect("the stream goes on").expect_err("it is told");
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("partition.assignment.strategy"), "{error}");
    let Health::Degraded { reason } = subscription.status().health else { panic!("it is not joined") };
    assert!(reason.contains("range"), "{reason}");
    loop {
        match next_or_trouble(&mut subscription).await.expect("the stream goes on") {
            Ok(delivery) => break delivery.ack(),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    assert_eq!(subscription.status().health, Health::Healthy);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn a_client_that_has_failed_for_good_ends_its_subscriptions_and_takes_no_others() {
    let cluster = cluster(&["orders", "invoices"]).await;
    let subscriber = subscriber(&cluster);
    let mut orders = subscriber.subscribe("orders").await.expect("it subscribes");
    next(&mut orders).await.ack();
    // Another process has begun under the same name.
    cluster.request_errors(ApiKey::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let error = next_or_trouble(&mut orders).await.expect("it is told").expect_err("the member is fenced");
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(next_or_trouble(&mut orders).await.is_none(), "and nothing comes after that");

    let mut invoices = subscriber.subscribe("invoices").await.expect("it subscribes");
    next(&mut invoices).await.ack();
    invoices.close().await.expect("it closes");
    drop(orders);
}
