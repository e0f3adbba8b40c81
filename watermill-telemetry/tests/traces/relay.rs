//! `forward`.

use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status};
use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;
use watermill_core::{Message, Publisher, Subscriber, error::PublishErrorKind};
use watermill_forwarder::{DEFAULT_TOPIC, FencedForwarder, Forwarder, ForwarderPublisher, ForwarderReport};
use watermill_sql::{
    SqlFencedPublisher, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig,
};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::support::{Exported, assert_attributes, assert_is_root, assert_links, attribute, traceparent};

/// Envelopes with messages that `send orders` has made, for these topics.
async fn envelopes(topics: &[&str]) -> Vec<Message> {
    let outbox = RecordingPublisher::new();
    let publisher = Traces::new().publisher(ForwarderPublisher::new(outbox.clone()));
    for topic in topics {
        publisher.publish(topic, vec![Message::new("x").with_key("k")]).await.unwrap();
    }
    outbox.published(DEFAULT_TOPIC)
}

async fn relay(forwarder: Forwarder, destination: &RecordingPublisher, count: usize) -> ForwarderReport {
    let stop = CancellationToken::new();
    let stopped = async {
        destination.await_published(count).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(forwarder.run_until(stop.cancelled()), stopped);
    ran.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_relays_call_links_to_the_publishing_of_its_messages_which_keep_their_context() {
    let exported = Exported::new();
    let source = ScriptedSubscriber::new();
    for envelope in envelopes(&["orders", "orders", "invoices"]).await {
        source.push(envelope);
    }
    let destination = RecordingPublisher::new();
    let forwarder = Forwarder::builder(source, destination.clone()).spans(Traces::new()).build().unwrap();
    relay(forwarder, &destination, 3).await;
    let (forward, sent) = (exported.one("forward orders"), exported.named("send orders"));
    assert_is_root(&forward);
    assert_eq!((&forward.span_kind, &forward.status), (&SpanKind::Client, &Status::Unset));
    assert_links(&forward, &[&sent[0], &sent[1]]);
    assert_attributes(
        &forward,
        &[
            ("messaging.system", "recording"),
            ("messaging.operation.name", "forward"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "orders"),
            ("messaging.batch.message_count", "2"),
            ("watermill.outbox.topic", DEFAULT_TOPIC),
        ],
    );
    assert_links(&exported.one("forward invoices"), &[&exported.one("send invoices")]);
    for (message, send) in destination.published("orders").iter().zip(&sent) {
        assert_eq!(message.metadata().get("traceparent"), Some(&*traceparent(send)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_says_so_and_the_next_try_has_a_span_of_its_own() {
    let exported = Exported::new();
    let source = ScriptedSubscriber::new();
    source.push(envelopes(&["orders"]).await.remove(0));
    let destination = RecordingPublisher::new();
    destination.fail_next(1, PublishErrorKind::Unavailable);
    let forwarder = Forwarder::builder(source, destination.clone()).spans(Traces::new()).build().unwrap();
    relay(forwarder, &destination, 1).await;
    let forwarded = exported.named("forward orders");
    assert_eq!(forwarded.len(), 2);
    assert!(matches!(forwarded[0].status, Status::Error { .. }));
    assert_attributes(&forwarded[0], &[("error.type", "unavailable")]);
    assert_eq!(forwarded[1].status, Status::Unset);
    assert_eq!(attribute(&forwarded[0], "watermill.outbox.seconds"), None);
    for forward in &forwarded {
        assert_links(forward, &[&exported.one("send orders")]);
    }
}

#[tokio::test]
async fn a_transaction_of_a_fenced_relay_has_a_span_that_says_how_long_its_messages_were_in_the_outbox() {
    let exported = Exported::new();
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("shop.db"))
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let config = SqlSubscriberConfig::default().group("relay");
    let outbox = SqlSubscriber::new(pool.clone(), config.clone()).unwrap();
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    let publisher = Traces::new().publisher(ForwarderPublisher::new(publisher));
    publisher.publish("orders", vec![Message::with_id("1", "{}")]).await.unwrap();
    publisher.publish("invoices", vec![Message::with_id("2", "{}")]).await.unwrap();

    let orders = SqlSubscriber::new(pool.clone(), config.group("consumer")).unwrap();
    let mut arrived = orders.subscribe("orders").await.unwrap();
    let destination = SqlFencedPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    let forwarder =
        FencedForwarder::builder(outbox, destination, "shop").spans(Traces::new()).build().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarder.run_until(stop.clone().cancelled_owned()));
    let delivery = futures::StreamExt::next(&mut arrived).await.unwrap().unwrap();
    stop.cancel();
    let report = running.await.unwrap().unwrap();
    let carried = delivery.metadata().get("traceparent").unwrap().to_owned();
    delivery.ack();
    exported.reached(&["send orders", "send invoices", "forward"]).await;
    assert_eq!((report.forwarded, report.outbox.messages), (2, 2));

    let send = exported.one("send orders");
    assert_eq!(carried, traceparent(&send));
    let forward = exported.one("forward");
    assert_links(&forward, &[&send, &exported.one("send invoices")]);
    assert_attributes(&forward, &[("messaging.system", "sql"), ("messaging.batch.message_count", "2")]);
    assert_eq!(attribute(&forward, "messaging.destination.name"), None, "it goes to two");
    let seconds: f64 = attribute(&forward, "watermill.outbox.seconds").unwrap().parse().unwrap();
    assert!(seconds >= 0.0 && report.outbox.longest < Duration::from_hours(1), "{seconds}");
}
