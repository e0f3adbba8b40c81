//! Entries between Go and Rust: what each wrote, and what the other made of it. `go/main.go` writes the lines.

use base64::{Engine, prelude::BASE64_STANDARD};
use redis::cmd;
use serde_json::{Value, json};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_redis::{RedisPublisherConfig, RedisSubscriberConfig};
use watermill_testkit::unique;

use crate::{next, publisher, raw, subscriber};

const PUBLISHED_BY_GO: &str = include_str!("go/published_by_go.jsonl");
const READ_BY_GO: &str = include_str!("go/read_by_go.jsonl");

type Fields = Vec<Vec<u8>>;

/// The fields of an entry, and the message that Go wrote or made of it.
fn lines(text: &str) -> impl Iterator<Item = (Fields, Message)> {
    let bytes = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
    text.lines().map(move |line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let fields = line["fields"].as_array().unwrap().iter().map(bytes).collect();
        let mut message = Message::with_id(line["uuid"].as_str().unwrap(), bytes(&line["payload"]));
        for (name, value) in line["metadata"].as_object().into_iter().flatten() {
            message.metadata_mut().insert(name, value.as_str().unwrap());
        }
        (fields, message)
    })
}

/// A message whose metadata have an order that Go's maps have not.
fn sorted(message: &Message) -> (String, Vec<u8>, Vec<(String, String)>) {
    let entries = message.metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable();
    (message.id().to_string(), message.payload().to_vec(), entries)
}

#[tokio::test]
async fn what_go_publishes_is_received() {
    let topic = unique("topic");
    let mut subscription = subscriber(RedisSubscriberConfig::new("g")).subscribe(&topic).await.unwrap();
    for (fields, message) in lines(PUBLISHED_BY_GO) {
        let mut add = cmd("XADD");
        add.arg(&topic).arg("*").arg(fields);
        let _: String = add.query_async(&mut raw().await).await.unwrap();
        let delivery = next(&mut subscription).await;
        assert_eq!(sorted(delivery.message()), sorted(&message));
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

/// Messages of every kind, as Go's are in its fixture, with a key.
fn messages() -> Vec<Message> {
    let mut wide = Message::with_id("wide", "x");
    for number in 0..20 {
        wide.metadata_mut().insert(format!("name-{number}-{number:040}"), format!("{number:0300}"));
    }
    vec![
        Message::with_id("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", r#"{"order":"7"}"#)
            .with_metadata("correlation_id", "c-1"),
        Message::with_id("größe", vec![0, 255, 10, 13])
            .with_metadata("grüße", "größer <&> 日本 🦀")
            .with_metadata("lines", "one\ntwo\t\"three\"\\")
            .with_metadata("empty", ""),
        wide,
        Message::default(),
        Message::with_id("keyed", "x").with_key("customer-7"),
    ]
}

#[tokio::test]
async fn what_go_reads_is_what_is_published() {
    let topic = unique("topic");
    publisher(RedisPublisherConfig::default()).publish(&topic, messages()).await.unwrap();
    let mut range = cmd("XRANGE");
    let entries: Vec<(String, Fields)> =
        range.arg(&topic).arg("-").arg("+").query_async(&mut raw().await).await.unwrap();
    let written: Vec<_> = entries.into_iter().map(|(_, fields)| fields).collect();
    let (read, made): (Vec<_>, Vec<_>) = lines(READ_BY_GO).unzip();
    let encoded =
        |fields: &Fields| fields.iter().map(|field| BASE64_STANDARD.encode(field)).collect::<Vec<_>>();
    let expected: Vec<_> =
        written.iter().map(|fields| json!({ "fields": encoded(fields) }).to_string()).collect();
    assert!(written == read, "Go has read other entries than these:\n{}", expected.join("\n"));
    let mut messages = messages();
    // Go knows no keys: there it is an entry of the metadata, as it is on the way.
    messages[4] = Message::with_id("keyed", "x").with_metadata("_watermill_key", "customer-7");
    assert_eq!(made.len(), messages.len());
    for (made, message) in made.iter().zip(&messages) {
        assert_eq!(sorted(made), sorted(message));
    }
}
