//! Webhooks between Go and Rust: what each sent in bytes, and what the other made of it. `go/main.go` writes the lines.

use axum::Router;
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt as _, future::join};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use watermill_core::{Message, Publisher, Subscriber};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig};

use crate::{in_time, raw::Raw, serve};

const PUBLISHED_BY_GO: &str = include_str!("go/published_by_go.jsonl");
const READ_BY_GO: &str = include_str!("go/read_by_go.jsonl");

/// A request, and the message that Go sent or made of it.
fn lines(text: &str) -> impl Iterator<Item = (Vec<u8>, Message)> {
    text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| BASE64_STANDARD.decode(line[name].as_str().unwrap_or_default()).unwrap();
        let mut message = Message::with_id(line["uuid"].as_str().unwrap(), bytes("payload"));
        for (name, value) in line["metadata"].as_object().into_iter().flatten() {
            message.metadata_mut().insert(name, value.as_str().unwrap());
        }
        (bytes("request"), message)
    })
}

#[tokio::test]
async fn what_go_posts_is_received() {
    let webhooks = HttpSubscriber::new(HttpSubscriberConfig::default()).unwrap();
    let address = serve(Router::new().route("/hooks/orders", webhooks.route("orders"))).await;
    let mut subscription = webhooks.subscribe("orders").await.unwrap();
    for (request, message) in lines(PUBLISHED_BY_GO) {
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(&request).await.unwrap();
        let delivery = in_time(subscription.next()).await.unwrap().unwrap();
        assert_eq!(delivery.message().clone().without_context(), message);
        delivery.ack();
        let mut status = [0; 12];
        in_time(caller.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
}

/// Messages of every kind, as Go's are in its fixture, with a key.
fn messages() -> Vec<Message> {
    vec![
        Message::with_id("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", r#"{"order":"7"}"#)
            .with_metadata("correlation_id", "c-1"),
        Message::with_id("größe", vec![0, 255, 10, 13])
            .with_metadata("grüße", "größer <&> 日本 🦀")
            .with_metadata("lines", "one\ntwo\t\"three\"\\")
            .with_metadata("empty", ""),
        Message::default(),
        Message::with_id("keyed", "x").with_key("customer-7"),
    ]
}

#[tokio::test]
async fn what_go_receives_is_what_is_posted() {
    let server = Raw::start().await;
    let publisher = HttpPublisher::new(HttpPublisherConfig::default()).unwrap();
    let url = server.url();
    let mut posted = Vec::new();
    for message in messages() {
        let publisher = &publisher;
        let taking = async {
            let mut conversation = server.accept().await;
            let request = conversation.request().await.unwrap();
            conversation
                .say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            request
        };
        let (published, request) = in_time(join(publisher.publish(&url, vec![message]), taking)).await;
        published.unwrap();
        // With a port that is always the same, and which is not in the body: there it would be as long.
        let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let host = server.host().into_bytes();
        let at = request[..head].windows(host.len()).position(|bytes| bytes == host).unwrap();
        posted.push([&request[..at], b"localhost:8080", &request[at + host.len()..]].concat());
    }
    let (read, made): (Vec<_>, Vec<_>) = lines(READ_BY_GO).unzip();
    let requests: Vec<_> = posted
        .iter()
        .map(|request| format!(r#"{{"request":"{}"}}"#, BASE64_STANDARD.encode(request)))
        .collect();
    assert!(posted == read, "Go has read other requests than these:\n{}", requests.join("\n"));
    let mut expected = messages();
    // Go knows no keys: there it is an entry of the metadata, as it is on the way.
    expected[3] = Message::with_id("keyed", "x").with_metadata("_watermill_key", "customer-7");
    for (made, expected) in made.into_iter().zip(expected) {
        assert_eq!((made.id(), made.payload()), (expected.id(), expected.payload()));
        let sorted = |message: &Message| {
            let mut entries: Vec<_> =
                message.metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            entries.sort_unstable();
            entries
        };
        assert_eq!(sorted(&made), sorted(&expected));
    }
}
