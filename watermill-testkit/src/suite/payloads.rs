//! Odd messages: they arrive unchanged, or the call fails before anything is sent.

use std::sync::Arc;

use bytes::Bytes;
use watermill_core::{
    Message,
    error::{PublishErrorKind, SubscribeErrorKind},
};

use super::stage::{Stage, message, within};
use crate::{Backend, Lack};

/// P3, P5: empty payloads and such of any bytes arrive, or are refused as a whole call.
pub async fn payloads_of_any_bytes_arrive(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = [
        Message::with_id("1", Bytes::new()),
        Message::with_id("2", (0..=255).collect::<Vec<u8>>()),
        Message::with_id("3", vec![0; 3]),
        Message::with_id("4", "{ \"not\": json "),
    ];
    if !stage.lacks(Lack::BinaryPayloads) {
        stage.publish(&messages).await;
        return stage.expect_left(&messages).await;
    }
    for odd in &messages {
        let call = vec![message("5"), odd.clone()];
        let error = within("publish", stage.publisher().publish(&stage.topic, call)).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Message, "{error}");
    }
    stage.expect_left(&[]).await;
}

/// P5: payloads of more than a mebibyte arrive.
pub async fn large_payloads_arrive(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let text = format!("\"{}\"", "x".repeat((1 << 20) + 1));
    let messages = ["1", "2", "3"].map(|id| Message::with_id(id, text.clone()).with_key("one"));
    stage.publish(&messages).await;
    stage.expect_left(&messages).await;
}

/// P5: metadata arrives as it was: none, many, in any script, with empty values, and with names that
/// differ in case only.
pub async fn odd_metadata_arrives(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let mut many = message("3");
    many.metadata_mut().extend((0..50).map(|n| (format!("entry-{n}"), format!("value {n}"))));
    let messages = [
        message("1"),
        message("2")
            .with_metadata("grüße", "größer 日本語 🦀")
            .with_metadata("empty", "")
            .with_metadata("quotes", r#""'\{}"#)
            .with_metadata("lines", "one\ntwo\ttabbed\r\n"),
        many,
        message("4").with_metadata("Name", "upper").with_metadata("name", "lower"),
        message("5").with_metadata("long", "v".repeat(1_000)),
    ]
    .map(|message| message.with_key("one"));
    stage.publish(&messages).await;
    stage.expect_left(&messages).await;
}

/// P5: ids are text like any other, the empty one too, and two messages may have the same: both come.
pub async fn any_id_arrives_and_none_hides_another(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = [
        Message::with_id("", "1"),
        Message::with_id("", "2"),
        Message::with_id("same", "3"),
        Message::with_id("same", "4"),
        Message::with_id("same", "4"),
        Message::with_id("größe-日本", "5"),
    ]
    .map(|message| message.with_key("one"));
    stage.publish(&messages).await;
    stage.expect_left(&messages).await;
}

/// P5: the key arrives, whatever its bytes; no key is not the empty key.
pub async fn the_key_arrives(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = [
        message("1").with_key("customer-7"),
        message("2"),
        message("3").with_key(""),
        message("4").with_key(&[0xff, 0x00, 0xfe][..]),
        message("5").with_key("größe 日本"),
    ];
    stage.publish(&messages).await;
    stage.expect_left(&messages).await;
}

/// A topic that the backend cannot hold is refused everywhere, and before anything is sent.
pub async fn an_invalid_topic_is_refused(backend: Arc<dyn Backend>) {
    let stage = Stage::bare(&backend).await;
    let topics = backend.invalid_topics();
    assert!(!topics.is_empty(), "name a topic that the backend cannot hold");
    for topic in topics {
        let error = within("publish", stage.publisher().publish(&topic, vec![message("1")])).await;
        let error = error.expect_err(&format!("publishing to {topic:?} is refused"));
        assert_eq!(error.kind(), PublishErrorKind::Topic, "{error}");
        let error = within("subscribe", stage.subscriber().subscribe(&topic)).await;
        let error = error.expect_err(&format!("subscribing to {topic:?} is refused"));
        assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error}");
        let error = within("initialize", stage.subscriber().initialize(&topic)).await;
        let error = error.expect_err(&format!("initializing {topic:?} is refused"));
        assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error}");
    }
}
