//! What Watermill's googlecloud library for Go writes is read to the byte, and the other way round.
//!
//! `messages.jsonl` is what `main.go` printed, with version 2.0.0 of the library.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message as _;
use watermill_core::{Message, Publisher};
use watermill_gcp::{PubSubPublisher, PubSubPublisherConfig};

use crate::{
    server::{Pull, Server, State},
    support::{config, next, subscribe_with},
    wire::{PubsubMessage, ReceivedMessage, Timestamp},
};

const MESSAGES: &str = include_str!("messages.jsonl");

/// 2026-11-27 00:05:12.34, which is when `main.go` says that the service took them.
const PUBLISHED: Timestamp = Timestamp { seconds: 1_795_737_912, nanos: 340_000_000 };

struct Line {
    /// As Google's client for Go sent it.
    sent: PubsubMessage,
    /// The service's id.
    id: String,
    /// As the library for Go read it.
    uuid: String,
    payload: Vec<u8>,
    metadata: BTreeMap<String, String>,
}

fn lines() -> Vec<Line> {
    let lines = MESSAGES.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let bytes = |name: &str| STANDARD.decode(text(name)).expect("base64");
        let metadata = line["metadata"].as_object().expect("an object").iter();
        let metadata = metadata.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
        Line {
            sent: PubsubMessage::decode(&bytes("sent")[..]).expect("a message"),
            id: text("id"),
            uuid: text("uuid"),
            payload: bytes("payload"),
            metadata: metadata.collect(),
        }
    });
    lines.collect()
}

/// Reads all of them.
async fn read(as_go: bool) -> Vec<Message> {
    let delivered = lines().into_iter().map(|line| {
        let mut message = line.sent;
        (message.message_id, message.publish_time) = (line.id.clone(), Some(PUBLISHED));
        ReceivedMessage { ack_id: line.id, message: Some(message), delivery_attempt: 0 }
    });
    let pulls = [Pull::Send(delivered.collect())].into();
    let server = Server::start(State { pulls, ..State::default() }).await;
    let mut subscription = subscribe_with(config(&server).go_metadata(as_go)).await;
    let mut read = Vec::new();
    for _ in lines() {
        let delivery = next(&mut subscription).await;
        read.push(delivery.message().clone());
        delivery.ack();
    }
    subscription.close().await.expect("it closes");
    read
}

fn metadata(message: &Message) -> BTreeMap<String, String> {
    message.metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn what_go_wrote_arrives_with_its_own_metadata_and_none_besides() {
    for (message, line) in read(false).await.iter().zip(lines()) {
        assert_eq!((message.id().as_str(), &message.payload()[..]), (&*line.uuid, &line.payload[..]));
        let key = message.key().map(|key| &key[..]);
        assert_eq!(key.unwrap_or_default(), line.sent.ordering_key.as_bytes());
        let mut attributes: BTreeMap<_, _> = line.sent.attributes.into_iter().collect();
        assert_eq!(attributes.remove("_watermill_message_uuid"), Some(line.uuid));
        assert_eq!(metadata(message), attributes);
    }
}

#[tokio::test]
async fn with_go_metadata_what_go_wrote_is_what_go_reads() {
    for (message, line) in read(true).await.iter().zip(lines()) {
        assert_eq!((message.id().as_str(), &message.payload()[..]), (&*line.uuid, &line.payload[..]));
        assert_eq!(metadata(message), line.metadata);
    }
}

#[tokio::test]
async fn what_we_send_is_what_go_sends() {
    let server = Server::start(State::default()).await;
    let publisher =
        PubSubPublisher::new(PubSubPublisherConfig::new(server.access())).await.expect("a valid config");
    for (message, line) in read(false).await.into_iter().zip(lines()) {
        publisher.publish("orders", vec![message.without_context()]).await.expect("it is accepted");
        assert_eq!(server.change(|state| state.accepted.pop()), Some(line.sent));
    }
}
