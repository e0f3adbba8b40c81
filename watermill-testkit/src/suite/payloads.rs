//! Odd messages: they arrive unchanged, or the call fails before anything is sent.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time;
use watermill_core::{
    Delivery, Message,
    error::{PublishErrorKind, SubscribeErrorKind},
};

use super::{
    fixture::{Fixture, close, delivered, message, take},
    obligation::{QUIET, equal, exactly, refused, refused_publish, require},
};
use crate::{Backend, Lack};

/// P5: empty payloads and such of any bytes arrive, or are refused as a whole call.
pub async fn payloads_of_any_bytes_arrive(backend: Arc<dyn Backend>) {
    arrive_or_are_refused(
        backend,
        &[
            Message::with_id("1", Bytes::new()),
            Message::with_id("2", (0..=255).collect::<Vec<u8>>()),
            Message::with_id("3", vec![0; 3]),
            Message::with_id("4", "{ \"not\": json "),
            Message::with_id("5", "{ \"is\": [\"json\"] }"),
        ],
    )
    .await;
}

/// P5: payloads of more than a mebibyte arrive, or the largest that the backend holds; what is far beyond
/// is refused.
pub async fn large_payloads_arrive(backend: Arc<dyn Backend>) {
    let size = backend.limits().payload_size((1 << 20) + 3);
    let text = format!("\"{}\"", "x".repeat(size.saturating_sub(2)));
    let mut messages: Vec<_> =
        ["1", "2", "3"].map(|id| Message::with_id(id, text.clone()).with_key("one")).to_vec();
    messages.extend(backend.limits().beyond());
    arrive_or_are_refused(backend, &messages).await;
}

/// P5: metadata arrives as it was: none, many, in any script, with empty values, and with names that
/// differ in case only.
pub async fn odd_metadata_arrives(backend: Arc<dyn Backend>) {
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
        message("6").with_metadata("value", "größer 日本語 🦀"),
        message("7").with_metadata("empty", ""),
        message("8").with_metadata("plain", "value"),
    ];
    arrive_or_are_refused(backend, &messages.map(|message| message.with_key("one"))).await;
}

/// P5: the W3C trace context of a publisher arrives as it was, and its baggage, as long as the standards let them be: whoever
/// handles a message can continue its trace, on every backend.
pub async fn trace_context_arrives(backend: Arc<dyn Backend>) {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let states: Vec<_> = (10..42).map(|n| format!("vendor{n}@sys=v{n}:x")).collect();
    let baggage = "tenant=a%20b;priority=1;note=%C3%BC,user=7";
    let messages = [
        message("1").with_metadata("traceparent", parent),
        message("2").with_metadata("traceparent", parent).with_metadata("tracestate", states.join(",")),
        message("3").with_metadata("traceparent", parent).with_metadata("baggage", baggage),
    ];
    let messages = messages.map(|message| message.with_key("one"));
    let holds = |message: &Message| backend.limits().hold(message);
    require("P5: a message with the context of a trace is within the limits", messages.iter().all(holds));
    arrive_or_are_refused(backend, &messages).await;
}

/// P5: ids are text like any other, the empty one too, and two messages may have the same: both come.
pub async fn any_id_arrives_and_none_hides_another(backend: Arc<dyn Backend>) {
    let messages = [
        Message::with_id("", "1"),
        Message::with_id("", "2"),
        Message::with_id("same", "3"),
        Message::with_id("same", "4"),
        Message::with_id("same", "4"),
        Message::with_id("größe-日本", "5"),
        Message::with_id("l".repeat(200), "6"),
    ];
    arrive_or_are_refused(backend, &messages.map(|message| message.with_key("one"))).await;
}

/// P5: the key arrives, whatever its bytes; no key is not the empty key.
pub async fn the_key_arrives(backend: Arc<dyn Backend>) {
    let messages = [
        message("1").with_key("customer-7"),
        message("2"),
        message("3").with_key(""),
        message("4").with_key(&[0xff, 0x00, 0xfe][..]),
        message("5").with_key("größe 日本"),
    ];
    arrive_or_are_refused(backend, &messages).await;
}

/// A topic that the backend cannot hold is refused everywhere, and before anything is sent.
pub async fn an_invalid_topic_is_refused(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    require("P5: a topic that the backend cannot hold is named", !backend.invalid_topics().is_empty());
    let subscribes = backend.connect().await.subscriber.is_some();
    for topic in backend.invalid_topics() {
        let obligation = format!("P5: publishing to {topic:?} is refused");
        let publisher = fixture.publisher();
        let call = publisher.publish(&topic, vec![message("1")]);
        refused_publish(&obligation, PublishErrorKind::Topic, call).await;
        if !subscribes {
            continue;
        }
        let obligation = format!("S1: subscribing to {topic:?} is refused");
        let error = refused(&obligation, fixture.subscriber().subscribe(&topic)).await;
        equal(&obligation, error.kind(), SubscribeErrorKind::Topic);
        let obligation = format!("S1: initializing {topic:?} is refused");
        let error = refused(&obligation, fixture.subscriber().initialize(&topic)).await;
        equal(&obligation, error.kind(), SubscribeErrorKind::Topic);
    }
}

/// Those within the limits of the backend arrive in one call; each of the others is refused together with
/// what is beside it.
async fn arrive_or_are_refused(backend: Arc<dyn Backend>, messages: &[Message]) {
    let fixture = Fixture::new(&backend).await;
    let limits = backend.limits();
    let (held, beyond): (Vec<_>, Vec<_>) = messages.iter().cloned().partition(|m| limits.hold(m));
    for odd in beyond.into_iter().filter(|_| !fixture.lacks(Lack::EarlyRefusal)) {
        let obligation = format!("P5: a message beyond the limits is refused ({:.60?})", odd.id());
        let call = vec![message("9").with_key("one"), odd, message("99").with_key("one")];
        let publisher = fixture.publisher();
        let call = publisher.publish(&fixture.topic, call);
        refused_publish(&obligation, PublishErrorKind::Message, call).await;
    }
    fixture.publish(&held).await;
    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, held.len()).await;
    // What was accepted may come twice.
    let known = |delivery: &Delivery| held.iter().any(|message| message.id() == delivery.id());
    while let Ok(next) = time::timeout(QUIET, subscription.next()).await {
        let delivery = delivered(next);
        require("P5: nothing is sent of a call that is refused", known(&delivery));
        delivery.ack();
    }
    close(subscription).await;
    exactly("P5: a message within the limits arrives as it was", &seen, &held, fixture.ordering());
}
