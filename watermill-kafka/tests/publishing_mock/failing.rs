//! Brokers that refuse, for now and for good.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as Code};
use watermill_core::{
    Message, Publisher as _,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_kafka::KafkaPublisher;

use crate::cluster::{Cluster, messages, texts};

#[tokio::test]
async fn what_a_broker_refuses_for_now_is_sent_again_once_and_in_order() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    cluster.mock.request_errors(
        ApiKey::Produce,
        &[
            Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Code::RD_KAFKA_RESP_ERR__TRANSPORT,
            Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    for call in 0..10 {
        let numbers = call * 20..(call + 1) * 20;
        publisher.publish(&cluster.topic, messages(numbers)).await.expect("it is tried again");
    }
    assert_eq!(cluster.read(0, 200), texts(0..200));
    assert_eq!(cluster.len(0), 200, "something was written twice");
}

#[tokio::test]
async fn a_refused_message_fails_its_call_and_no_later_one() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    cluster.mock.request_errors(ApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let error = publisher.publish(&cluster.topic, messages(0..1)).await.expect_err("it is refused");
    assert_eq!(error.kind(), PublishErrorKind::Message);
    assert_eq!(*error.not_accepted(), NotAccepted::All);
    publisher.publish(&cluster.topic, messages(1..3)).await.expect("a fresh client publishes");
    assert_eq!(cluster.read(0, 2), texts(1..3));
}

#[tokio::test]
async fn a_message_above_the_bound_fails_the_call_before_anything_is_sent() {
    let cluster = Cluster::new(1);
    let config = cluster.config().option("message.max.bytes", "2000");
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    // The bytes of a record around its value, as the check counts them.
    let message = |bytes: usize| Message::with_id("1", vec![b'x'; bytes]);
    let around = 36 + (1 + "_watermill_message_uuid".len()) + (1 + "1".len());
    let fits = message(2000 - around);
    publisher.publish(&cluster.topic, vec![fits.clone()]).await.expect("librdkafka counts the same");

    let calls = vec![fits, message(2000 - around + 1)];
    let error = publisher.publish(&cluster.topic, calls).await.expect_err("one is too large");
    assert_eq!(error.kind(), PublishErrorKind::Message);
    assert!(error.to_string().contains("takes 2001 bytes"), "{error}");
    assert_eq!(cluster.len(0), 1, "nothing of the call was sent");
}

#[tokio::test]
async fn a_missing_topic_is_an_error_that_says_what_to_do() {
    let cluster = Cluster::new(1);
    let unknown = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mock.topic_error("missing", unknown).expect("an error is set");
    let config = cluster.config().request_timeout(Duration::from_millis(300));
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let error = publisher.publish("missing", messages(0..3)).await.expect_err("there is no such topic");
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert_eq!(*error.not_accepted(), NotAccepted::All);
    assert!(error.to_string().contains("`create_topics`"), "{error}");
    publisher.publish(&cluster.topic, messages(0..3)).await.expect("other topics are fine");
}

#[tokio::test]
async fn a_broker_that_is_away_for_longer_than_the_timeout_is_an_error_and_then_forgotten() {
    let cluster = Cluster::new(1);
    let config = cluster.config().delivery_timeout(Duration::from_secs(2));
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    cluster.mock.broker_down(1).expect("it goes down");
    let error = publisher.publish(&cluster.topic, messages(1..3)).await.expect_err("nobody is there");
    assert_eq!(error.kind(), PublishErrorKind::Timeout);
    assert_eq!(*error.not_accepted(), NotAccepted::All);
    cluster.mock.broker_up(1).expect("it comes up");
    while publisher.publish(&cluster.topic, messages(3..4)).await.is_err() {}
}

#[tokio::test]
async fn a_client_that_has_failed_for_good_is_replaced() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    let desync = Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.mock.request_errors(ApiKey::Produce, &[desync]);
    let error = publisher.publish(&cluster.topic, messages(1..2)).await.expect_err("its sequence is broken");
    assert!(error.is_retryable(), "{error:?}");
    publisher.publish(&cluster.topic, messages(2..3)).await.expect("a fresh client publishes");
}

#[tokio::test]
async fn a_topic_that_was_there_once_is_away_and_nothing_to_give_a_message_up_for() {
    let cluster = Cluster::new(1);
    let config = cluster.config().request_timeout(Duration::from_millis(300));
    let config = config.option("topic.metadata.refresh.interval.ms", "50");
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    // What brokers say of every topic while they start.
    let unknown = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mock.topic_error(&cluster.topic, unknown).expect("an error is set");
    let mut told = None;
    while told.is_none() {
        told = publisher.publish(&cluster.topic, messages(1..2)).await.err();
    }
    let error = told.expect("the topic is unknown");
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable() && error.to_string().contains("was there"), "{error}");
    cluster.mock.topic_error(&cluster.topic, Code::RD_KAFKA_RESP_ERR_NO_ERROR).expect("it is back");
    while publisher.publish(&cluster.topic, messages(1..2)).await.is_err() {}
}

#[tokio::test]
async fn a_batch_that_is_refused_as_too_large_is_sent_again_one_by_one_before_a_message_is_blamed() {
    let cluster = Cluster::new(1);
    let publisher = cluster.publisher();
    publisher.publish(&cluster.topic, messages(0..1)).await.expect("it is accepted");
    let too_large = Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.mock.request_errors(ApiKey::Produce, &[too_large]);
    publisher.publish(&cluster.topic, messages(1..40)).await.expect("each of them fits");
    assert_eq!(cluster.read(0, 40), texts(0..40), "in their order");

    // The batch, then the third of its messages.
    let fine = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.mock.request_errors(ApiKey::Produce, &[too_large, fine, fine, too_large]);
    // One request at a time, which waits for all of them.
    let config = cluster.config().option("max.in.flight.requests.per.connection", "1");
    let publisher = KafkaPublisher::new(config.option("linger.ms", "200")).expect("a valid config");
    let error = publisher.publish(&cluster.topic, messages(40..50)).await.expect_err("one does not fit");
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    let NotAccepted::At(places) = error.not_accepted() else { panic!("{error:?}") };
    // A broker refuses what is on its way behind it, for its sequence has a gap; this cluster does not look at that.
    assert_eq!(places.first(), Some(&2), "{error:?}");
    assert!(places.len() > 6, "{error:?}");
    assert_eq!(cluster.len(0), 50 - places.len() as i64, "what is not accepted is not written");
}
