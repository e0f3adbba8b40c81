//! Brokers that refuse and go away.

use std::time::Duration;

use futures::StreamExt;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time;
use watermill_core::{
    Message, Publisher as _, Subscriber as _,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::Health,
};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::patience;

use crate::next;

const TOPIC: &str = "orders";

/// A cluster for one test, with a topic that has these messages.
async fn cluster(messages: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic(TOPIC, 1, 1).expect("the topic is made");
    publish(&cluster, messages).await;
    cluster
}

async fn publish(cluster: &MockCluster<'static, DefaultProducerContext>, ids: &[&str]) {
    let config = KafkaPublisherConfig::new(cluster.bootstrap_servers());
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let messages = ids.iter().map(|id| Message::with_id(*id, "x")).collect();
    publisher.publish(TOPIC, messages).await.expect("they are accepted");
}

#[tokio::test]
async fn a_commit_that_is_refused_is_made_again() {
    let cluster = cluster(&["1", "2"]).await;
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers()).group("g");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe(TOPIC).await.expect("it subscribes");
    let first = next(&mut subscription).await;
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 3];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    time::timeout(patience(), first.ack_confirmed()).await.expect("an answer").expect("it is recorded");

    let second = next(&mut subscription).await;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    second.ack();
    time::timeout(patience(), subscription.close()).await.expect("an end").expect("everything is recorded");
}

#[tokio::test]
async fn a_broker_that_goes_away_is_told_on_the_stream_and_reading_goes_on_when_it_is_back() {
    let cluster = cluster(&["1"]).await;
    let config =
        KafkaSubscriberConfig::new(cluster.bootstrap_servers()).option("reconnect.backoff.max.ms", "100");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe(TOPIC).await.expect("it subscribes");
    next(&mut subscription).await.ack();

    cluster.broker_down(1).expect("the broker goes");
    let told = time::timeout(patience(), subscription.next()).await.expect("trouble is told");
    let error: SubscribeError = told.expect("the stream goes on").expect_err("there is no broker");
    assert_eq!(error.kind(), SubscribeErrorKind::Unavailable, "{error}");
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));

    cluster.broker_up(1).expect("the broker comes back");
    // Each record that comes shows that it works again; what is told late counts as trouble once more.
    let mut received = 0;
    while received == 0 || subscription.status().health != Health::Healthy {
        publish(&cluster, &["2"]).await;
        loop {
            match time::timeout(patience(), subscription.next()).await.expect("it goes on") {
                Some(Ok(delivery)) => break delivery.ack(),
                Some(Err(error)) => assert!(error.is_retryable(), "{error}"),
                None => panic!("the stream has ended"),
            }
        }
        received += 1;
    }
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn a_broker_that_is_connected_and_does_not_answer_shows_in_the_status_before_the_client_gives_up() {
    let cluster = cluster(&["1"]).await;
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers()).option("session.timeout.ms", "3000");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe(TOPIC).await.expect("it subscribes");
    next(&mut subscription).await.ack();
    assert_eq!(subscription.status().health, Health::Healthy);

    // It takes every request, and its answers are on their way for longer than a session.
    cluster.broker_round_trip_time(1, Duration::from_secs(20)).expect("the broker freezes");
    let reason = time::timeout(patience(), async {
        loop {
            if let Health::Degraded { reason } = subscription.status().health {
                return reason;
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    });
    let reason = reason.await.expect("silence is told");
    assert!(reason.contains("not answered"), "{reason}");
    assert_eq!(subscriber.status()[0], subscription.status());

    cluster.broker_round_trip_time(1, Duration::ZERO).expect("the broker goes on");
    let recovered = time::timeout(patience(), async {
        while subscription.status().health != Health::Healthy {
            time::sleep(Duration::from_millis(50)).await;
        }
    });
    recovered.await.expect("it answers again");
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn a_broker_that_freezes_while_a_commit_is_waited_for_shows_in_the_status_within_the_session() {
    let cluster = cluster(&["1", "2"]).await;
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers())
        .group("g")
        .commit_interval(Duration::from_millis(10))
        .option("session.timeout.ms", "3000");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe(TOPIC).await.expect("it subscribes");
    next(&mut subscription).await.ack_confirmed().await.expect("it is recorded");
    let second = next(&mut subscription).await;
    cluster.broker_round_trip_time(1, Duration::from_secs(20)).expect("the broker freezes");
    // The thread that serves the client is in this commit from here on.
    second.ack();
    let degraded = time::timeout(patience(), async {
        while subscription.status().health == Health::Healthy {
            time::sleep(Duration::from_millis(50)).await;
        }
    });
    degraded.await.expect("silence is told");
    cluster.broker_round_trip_time(1, Duration::ZERO).expect("the broker goes on");
    let recovered = time::timeout(patience(), async {
        while subscription.status().health != Health::Healthy {
            time::sleep(Duration::from_millis(50)).await;
        }
    });
    recovered.await.expect("it answers again");
    drop(subscription);
}

#[tokio::test]
async fn a_topic_that_may_not_be_read_is_an_error_that_says_why() {
    let cluster = cluster(&["1"]).await;
    cluster
        .topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("the topic refuses");
    let config =
        KafkaSubscriberConfig::new(cluster.bootstrap_servers()).request_timeout(Duration::from_secs(3));
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let error = subscriber.subscribe(TOPIC).await.expect_err("it may not be read");
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(!error.is_retryable());
}
