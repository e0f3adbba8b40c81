//! Records as librdkafka writes them, read as messages: the format of Go Watermill.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use watermill_core::{Message, Publisher as _};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};

use crate::{mock_cluster, next, subscribe, topic};

/// Writes a record with these headers and reads it.
async fn read(key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Message {
    let topic = topic();
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", mock_cluster::brokers()).create().expect("a producer");
    let mut record = FutureRecord::to(&topic).partition(0);
    (record.key, record.payload) = (key, payload);
    if !headers.is_empty() {
        let add = |all: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
            all.insert(Header { key, value: *value })
        };
        record = record.headers(headers.iter().fold(OwnedHeaders::new(), add));
    }
    producer.send(record, Duration::from_secs(10)).await.expect("it is written");

    let mut subscription = subscribe(mock_cluster::subscriber_config(), &topic).await;
    let delivery = next(&mut subscription).await;
    let message = delivery.message().clone();
    delivery.ack();
    subscription.close().await.expect("it closes");
    message
}

#[tokio::test]
async fn a_record_of_go_is_the_message_that_was_published() {
    let headers: [(&str, Option<&[u8]>); 3] = [
        ("_watermill_message_uuid", Some(b"0d1c1d9e-8e7a-4f0e-9c39-6c8b1b7b6a11")),
        ("name", Some(b"orders.Placed")),
        ("correlation_id", Some("größe".as_bytes())),
    ];
    let message = read(Some(b"customer-7"), Some(b"\xff\x00"), &headers).await;
    let expected = Message::with_id("0d1c1d9e-8e7a-4f0e-9c39-6c8b1b7b6a11", &b"\xff\x00"[..])
        .with_key("customer-7")
        .with_metadata("name", "orders.Placed")
        .with_metadata("correlation_id", "größe");
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_record_of_somebody_who_knows_nothing_of_watermill_is_a_message_too() {
    let message = read(None, Some(b"x"), &[]).await;
    assert_eq!(message, Message::with_id("", "x"));
    // A tombstone.
    let message = read(Some(b""), None, &[("trace", Some(b"1"))]).await;
    assert_eq!(message, Message::with_id("", Bytes::new()).with_key("").with_metadata("trace", "1"));
}

#[tokio::test]
async fn a_record_without_a_value_is_told_from_an_empty_one_and_published_again_as_what_it_is() {
    let tombstone = read(Some(b"k"), None, &[("trace", Some(b"1"))]).await;
    assert!(tombstone.is_tombstone() && tombstone.payload().is_empty());
    let empty = read(Some(b"k"), Some(b""), &[]).await;
    assert!(!empty.is_tombstone() && empty.payload().is_empty());

    let topic = topic();
    let config = KafkaPublisherConfig::new(mock_cluster::brokers());
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    // As a handler may hand them on.
    let copy = Message::new(tombstone.payload().clone()).with_key("k");
    let sent = vec![tombstone, copy, empty, Message::tombstone("k")];
    publisher.publish(&topic, sent).await.expect("they are accepted");
    let mut subscription = subscribe(mock_cluster::subscriber_config(), &topic).await;
    for is_tombstone in [true, true, false, true] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.message().is_tombstone(), is_tombstone);
        delivery.ack();
    }
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn of_headers_of_one_name_the_last_counts_and_no_value_is_the_empty_one() {
    let headers: [(&str, Option<&[u8]>); 6] = [
        ("a", Some(b"1")),
        ("_watermill_message_uuid", Some(b"first")),
        ("b", None),
        ("a", Some(b"2")),
        ("_watermill_message_uuid", Some(b"last")),
        ("", Some(b"nameless")),
    ];
    let message = read(None, Some(b"x"), &headers).await;
    let expected = Message::with_id("last", "x")
        .with_metadata("a", "2")
        .with_metadata("b", "")
        .with_metadata("", "nameless");
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_header_that_is_not_text_is_shown_as_far_as_it_is_and_holds_nothing_up() {
    let message = read(None, Some(b"x"), &[("id", Some(b"a\xffb"))]).await;
    assert_eq!(message, Message::with_id("", "x").with_metadata("id", "a\u{fffd}b"));
}

#[tokio::test]
async fn a_record_with_very_many_headers_keeps_them_all() {
    let names: Vec<String> = (0..100).map(|n| format!("name-{n}")).collect();
    let headers: Vec<(&str, Option<&[u8]>)> =
        names.iter().map(|name| (name.as_str(), Some(name.as_bytes()))).collect();
    let message = read(None, Some(b"x"), &headers).await;
    assert_eq!(message.metadata().len(), 100);
    assert!(names.iter().all(|name| message.metadata().get(name) == Some(name)));
}
