//! Messages between Go and Rust: the bytes that each sent, and what the other made of them. `go/main.go` writes the lines.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use watermill_core::{Message, Publisher, Subscriber};
use watermill_nats::{NatsPublisherConfig, NatsSubscriberConfig};
use watermill_testkit::unique;

use crate::{in_time, next, publisher, raw::Raw, subscriber};

const PUBLISHED_BY_GO: &str = include_str!("go/published_by_go.jsonl");
const READ_BY_GO: &str = include_str!("go/read_by_go.jsonl");

/// Headers and body, and the message that Go sent or made of them.
fn lines(text: &str) -> Vec<(Vec<u8>, Vec<u8>, Message)> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| BASE64_STANDARD.decode(line[name].as_str().unwrap_or_default()).unwrap();
        let mut message = Message::with_id(line["uuid"].as_str().unwrap(), bytes("payload"));
        for (name, value) in line["metadata"].as_object().into_iter().flatten() {
            message.metadata_mut().insert(name, value.as_str().unwrap());
        }
        (bytes("headers"), bytes("body"), message)
    };
    text.lines().map(read).collect()
}

/// Headers have no order.
fn sorted(headers: &[u8]) -> Vec<&str> {
    let mut lines: Vec<_> = str::from_utf8(headers).unwrap().split("\r\n").collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn what_go_publishes_is_received() {
    let topic = unique("topic");
    let mut subscription = subscriber(NatsSubscriberConfig::new("g")).await.subscribe(&topic).await.unwrap();
    let mut raw = Raw::connect().await;
    for (headers, body, message) in lines(PUBLISHED_BY_GO) {
        raw.publish(&topic, &headers, &body).await;
        let delivery = next(&mut subscription).await;
        let received = delivery.message().clone().without_context();
        assert_eq!((received.id(), received.payload()), (message.id(), message.payload()));
        assert_eq!(entries(&received), entries(&message));
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

/// Messages of every kind, as Go's are in its fixture, and with keys.
fn messages() -> Vec<Message> {
    vec![
        Message::with_id("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", r#"{"order":"7"}"#)
            .with_metadata("correlation_id", "c-1"),
        Message::with_id("größe", vec![0, 255, 10, 13])
            .with_metadata("script", "größer <&> 日本 🦀")
            .with_metadata("Case", "upper")
            .with_metadata("case", "lower")
            .with_metadata("empty", ""),
        Message::with_id("", ""),
        Message::with_id("keyed", "x").with_key("customer-7"),
        Message::with_id("binary", "x").with_key(&b"\xff\0"[..]),
    ]
}

#[tokio::test]
async fn what_go_receives_is_what_is_published() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default()).await;
    let mut raw = Raw::connect().await;
    raw.subscribe(&topic).await;
    publisher.publish(&topic, messages()).await.unwrap();
    let mut expected = messages();
    // Go knows no keys: there they are entries of the metadata, as they are on the way.
    expected[3] = Message::with_id("keyed", "x").with_metadata("_watermill_key", "customer-7");
    expected[4] = Message::with_id("binary", "x").with_metadata("_watermill_key_base64", "/wA=");
    let read = lines(READ_BY_GO);
    assert_eq!(read.len(), expected.len());
    for ((read_headers, read_body, made), expected) in read.into_iter().zip(expected) {
        let (headers, body) = in_time(raw.message()).await;
        assert_eq!(
            (sorted(&headers), &body),
            (sorted(&read_headers), &read_body),
            "Go has read another message"
        );
        assert_eq!((made.id(), made.payload()), (expected.id(), expected.payload()));
        assert_eq!(entries(&made), entries(&expected));
    }
}

fn entries(message: &Message) -> Vec<(&str, &str)> {
    let mut entries: Vec<_> = message.metadata().iter().collect();
    entries.sort_unstable();
    entries
}
