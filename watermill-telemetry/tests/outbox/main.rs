//! From a request to its handler, through an outbox. On a thread of its own, an SQLite connection is the last to hold some of the
//! spans, so that the whole process is listened to here.

#[path = "../traces/support.rs"]
#[expect(dead_code, reason = "the tests of spans on one thread use the rest")]
mod support;

use opentelemetry_sdk::trace::SpanData;
use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use watermill_core::{
    Handler, MemoryBroker, Message, Publisher, Router, Subscriber, error::BoxError, router::Phase,
};
use watermill_forwarder::{DEFAULT_TOPIC, Envelope, Forwarder, ForwarderPublisher, ForwarderReport};
use watermill_sql::{SqlInbox, SqlInboxConfig, SqlPublisher, SqlSubscriber, SqlSubscriberConfig, Tx};
use watermill_telemetry::traces::Traces;
use watermill_testkit::ScriptedSubscriber;

use crate::support::{
    Exported, assert_attributes, assert_is_child, assert_is_root, assert_links, attribute, carrying, run,
    traceparent,
};

/// Publishes in a request's transaction, relays, and handles.
async fn order(traces: Traces) -> ForwarderReport {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let outbox = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default().group("relay")).unwrap();
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    let request = async {
        let mut tx = pool.begin().await.unwrap();
        let publisher = traces.publisher(ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx)));
        publisher.publish("orders", vec![Message::with_id("order-1", "{}")]).await.unwrap();
        drop(publisher);
        tx.commit().await.unwrap();
    };
    request.instrument(tracing::info_span!("request")).await;

    let broker = MemoryBroker::new();
    let (handled, stop) = (CancellationToken::new(), CancellationToken::new());
    let bill = {
        let handled = handled.clone();
        move |_: Message| {
            tracing::info_span!("charge").in_scope(|| {});
            handled.cancel();
            async {}
        }
    };
    let handler = Handler::new("bill", bill).from(broker.subscriber().group("billing"), "orders");
    let router = traces.on(Router::new()).add(handler);
    let control = router.control();
    let routing = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    let forwarder = Forwarder::builder(outbox, broker.publisher()).spans(traces).build().unwrap();
    let relaying = tokio::spawn(forwarder.run_until(stop.clone().cancelled_owned()));
    handled.cancelled().await;
    stop.cancel();
    let report = relaying.await.unwrap().unwrap();
    control.stop();
    routing.await.unwrap().unwrap();
    report
}

const NAMES: [&str; 5] = ["request", "send orders", "forward orders", "process orders", "charge"];

fn spans(exported: &Exported) -> [SpanData; 5] {
    NAMES.map(|name| exported.one(name))
}

#[tokio::test]
async fn by_links_the_relay_and_the_consumer_lead_to_the_send_of_the_request() {
    let exported = Exported::everywhere().await;
    let report = order(Traces::new()).await;
    exported.reached(&NAMES).await;
    let [request, send, forward, process, charge] = spans(&exported);
    assert_is_child(&send, &request);
    assert_attributes(&send, &[("messaging.system", "sql"), ("messaging.destination.name", "orders")]);
    assert_is_root(&forward);
    assert_links(&forward, &[&send]);
    assert_is_root(&process);
    assert_links(&process, &[&send]);
    assert_is_child(&charge, &process);
    assert_attributes(
        &process,
        &[
            ("messaging.system", "memory"),
            ("messaging.message.id", "order-1"),
            ("messaging.consumer.group.name", "billing"),
        ],
    );
    assert!(attribute(&forward, "watermill.outbox.seconds").is_some());
    assert_eq!(report.outbox.messages, 1);
    assert_eq!(exported.all().len(), 5, "and nothing else");
}

#[tokio::test]
async fn continued_it_is_one_trace_from_the_request_to_the_handler() {
    let exported = Exported::everywhere().await;
    order(Traces::new().continues(true)).await;
    exported.reached(&NAMES).await;
    let [request, send, forward, process, charge] = spans(&exported);
    assert_is_child(&send, &request);
    assert_is_child(&process, &send);
    assert_is_child(&charge, &process);
    assert_links(&process, &[&send]);
    assert_is_root(&forward);
    assert_links(&forward, &[&send]);
    let trace = request.span_context.trace_id();
    assert!([&send, &process, &charge].iter().all(|span| span.span_context.trace_id() == trace));
}

#[tokio::test]
async fn what_an_atomic_step_publishes_is_sent_in_the_span_of_its_message() {
    let exported = Exported::everywhere().await;
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let traces = Traces::new();
    let inbox = SqlInbox::new(pool.clone(), SqlInboxConfig::default())
        .unwrap()
        .publish_through(move |tables| Box::new(traces.publisher(ForwarderPublisher::new(tables))));
    let source = ScriptedSubscriber::new();
    source.push(carrying("order-1"));
    let bill = async |mut tx: Tx<Sqlite>, _: Message| {
        tx.publish("mails", Message::new("{}")).await?;
        Ok::<_, BoxError>(Message::new("{}"))
    };
    let handler =
        Handler::new("bill", bill).from(source.clone(), "orders").to_topic("invoices").layer(inbox.layer());
    run(traces.on(Router::new()).add(handler), &source, 1).await;
    let outbox = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default().group("relay")).unwrap();
    let mut envelopes = outbox.subscribe(DEFAULT_TOPIC).await.unwrap();
    let mut published = Vec::new();
    for topic in ["mails", "invoices"] {
        let delivery = futures::StreamExt::next(&mut envelopes).await.unwrap().unwrap();
        published.push((topic, Envelope::unwrap(&delivery).unwrap()));
        delivery.ack();
    }
    exported.reached(&["process orders"]).await;
    let process = exported.one("process orders");
    for (topic, envelope) in published {
        let send = exported.one(&format!("send {topic}"));
        assert_is_child(&send, &process);
        let (destination, message) = envelope.into_parts();
        assert_eq!(
            (destination.as_str(), message.metadata().get("traceparent")),
            (topic, Some(&*traceparent(&send)))
        );
    }
}
