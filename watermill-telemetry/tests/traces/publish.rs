//! `send` and `create`.

use opentelemetry::trace::{SpanKind, Status};
use tracing::Instrument;
use watermill_core::{Message, Publisher, PublisherExt, error::PublishErrorKind};
use watermill_telemetry::traces::Traces;
use watermill_testkit::RecordingPublisher;

use crate::support::{
    Exported, PARENT, assert_attributes, assert_is_child, assert_links, assert_links_to_parent, attribute,
    carrying, traceparent,
};

fn carried(message: &Message) -> Option<&str> {
    message.metadata().get("traceparent")
}

#[tokio::test]
async fn a_message_alone_carries_the_context_of_its_send_which_is_a_child_of_what_the_caller_does() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    let publisher = Traces::new().publisher(orders.clone());
    let order = Message::with_id("1", "x").with_metadata("a", "b");
    let request = tracing::info_span!("request");
    publisher.publish_one("orders", order).instrument(request).await.unwrap();

    let (request, send) = (exported.one("request"), exported.one("send orders"));
    assert_is_child(&send, &request);
    assert_eq!((&send.span_kind, &send.status), (&SpanKind::Producer, &Status::Unset));
    assert_attributes(
        &send,
        &[
            ("messaging.system", "recording"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "orders"),
            ("messaging.message.id", "1"),
        ],
    );
    assert_eq!(attribute(&send, "messaging.batch.message_count"), None);
    assert_links(&send, &[]);
    let published = orders.published("orders");
    assert_eq!(carried(&published[0]), Some(&*traceparent(&send)));
    assert_eq!(published[0].metadata().len(), 2, "an empty state is left out: {:?}", published[0]);
}

#[tokio::test]
async fn of_several_messages_each_has_a_context_of_its_own_which_the_call_links_to() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    let publisher = Traces::new().publisher(orders.clone());
    let request = tracing::info_span!("request");
    let messages = ["1", "2", "3"].map(|id| Message::with_id(id, "x")).to_vec();
    publisher.publish("orders", messages).instrument(request).await.unwrap();

    let (request, send) = (exported.one("request"), exported.one("send orders"));
    let created = exported.named("create orders");
    assert_eq!(send.span_kind, SpanKind::Client);
    assert_attributes(&send, &[("messaging.batch.message_count", "3")]);
    assert_eq!(attribute(&send, "messaging.message.id"), None);
    assert_links(&send, &created.iter().collect::<Vec<_>>());
    assert_is_child(&send, &request);
    for ((create, message), id) in created.iter().zip(orders.published("orders")).zip(["1", "2", "3"]) {
        assert_eq!(create.span_kind, SpanKind::Producer);
        assert_is_child(create, &request);
        assert_attributes(create, &[("messaging.message.id", id), ("messaging.operation.type", "create")]);
        assert_eq!(carried(&message), Some(&*traceparent(create)));
    }
}

#[tokio::test]
async fn without_create_spans_all_messages_carry_the_context_of_their_call() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    let publisher = Traces::new().create_spans(false).publisher(orders.clone());
    publisher.publish("orders", vec![Message::new("x"), Message::new("y")]).await.unwrap();
    let send = exported.one("send orders");
    assert_eq!(send.span_kind, SpanKind::Producer);
    for message in orders.published("orders") {
        assert_eq!(carried(&message), Some(&*traceparent(&send)));
    }
    assert_eq!(exported.all().len(), 1);
}

#[tokio::test]
async fn a_message_that_has_a_context_keeps_it_and_is_linked_to() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    let publisher = Traces::new().publisher(orders.clone());
    let message = carrying("1").with_metadata("tracestate", "vendor=state");
    publisher.publish_one("orders", message.clone()).await.unwrap();
    publisher.publish("orders", vec![message.clone(), Message::new("x")]).await.unwrap();
    let sent = exported.named("send orders");
    assert_eq!(sent[0].span_kind, SpanKind::Client, "its context created nothing");
    assert_links_to_parent(&sent[0]);
    assert_eq!(sent[1].links.len(), 2);
    let published = orders.published("orders");
    assert_eq!((&published[0], &published[1]), (&message, &message));
    assert_eq!(carried(&published[2]), Some(&*traceparent(&exported.one("create orders"))));
}

#[tokio::test]
async fn an_error_is_the_status_of_its_call_and_says_of_which_kind_it_is() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    orders.fail_next(1, PublishErrorKind::Unavailable);
    let publisher = Traces::new().publisher(orders);
    let error = publisher.publish_one("orders", Message::new("x")).await.unwrap_err();
    let send = exported.one("send orders");
    assert_eq!(send.status, Status::error(watermill_core::error::chain(&error)));
    assert_attributes(&send, &[("error.type", "unavailable")]);
}

#[tokio::test]
async fn baggage_goes_along_if_it_is_asked_for() {
    use opentelemetry::{Context, KeyValue, baggage::BaggageExt};
    let _exported = Exported::new();
    let orders = RecordingPublisher::new();
    let context = Context::current_with_baggage([KeyValue::new("tenant", "seven")]);
    let _attached = context.attach();
    Traces::new().publisher(orders.clone()).publish_one("orders", carrying("1")).await.unwrap();
    Traces::new().publisher(orders.clone()).publish_one("orders", Message::new("x")).await.unwrap();
    Traces::new()
        .baggage(true)
        .publisher(orders.clone())
        .publish_one("orders", Message::new("y"))
        .await
        .unwrap();
    let published = orders.published("orders");
    let baggage: Vec<_> = published.iter().map(|message| message.metadata().get("baggage")).collect();
    assert_eq!(baggage, [None, None, Some("tenant=seven")]);
}

#[tokio::test]
async fn a_publisher_without_a_subscriber_to_the_span_carries_the_callers_context_all_the_same() {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt};
    let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
    let provider =
        opentelemetry_sdk::trace::SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let theirs = filter_fn(|metadata| !metadata.target().starts_with("watermill"));
    let bridge = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_filter(theirs);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(bridge));
    let orders = RecordingPublisher::new();
    let publisher = Traces::new().publisher(orders.clone());
    let request = tracing::info_span!("request");
    publisher.publish_one("orders", Message::new("x")).instrument(request).await.unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(carried(&orders.published("orders")[0]), Some(&*traceparent(&spans[0])));
    assert_ne!(carried(&orders.published("orders")[0]), Some(PARENT));
}
