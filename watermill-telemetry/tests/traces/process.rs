//! `process`.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use watermill_core::{
    FailurePolicy, Handler, Message, PublisherExt, Router,
    error::{BoxError, PublishErrorKind},
};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::support::{
    CONSUMER, Exported, PARENT, assert_attributes, assert_is_child, assert_is_root, assert_links,
    assert_links_to_parent, attribute, carrying, router, run, traceparent,
};

fn source(messages: impl IntoIterator<Item = Message>) -> ScriptedSubscriber {
    let source = ScriptedSubscriber::new();
    for message in messages {
        source.push(message);
    }
    source
}

#[tokio::test]
async fn a_message_is_handled_in_a_trace_of_its_own_that_links_to_what_created_it() {
    let exported = Exported::new();
    let source = source([carrying("m-1")]);
    let handler = Handler::new("bill", async |_: Message| {
        tracing::info_span!("inside").in_scope(|| {});
    });
    run(router().add(handler.from(source.clone(), "orders")), &source, 1).await;
    let process = exported.one("process orders");
    assert_eq!((&process.span_kind, &process.status), (&CONSUMER, &Status::Unset));
    assert_is_root(&process);
    assert_links_to_parent(&process);
    assert_attributes(
        &process,
        &[
            ("messaging.system", "scripted"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "orders"),
            ("messaging.message.id", "m-1"),
            ("watermill.handler", "bill"),
            ("watermill.attempt", "1"),
        ],
    );
    assert_is_child(&exported.one("inside"), &process);
    assert_eq!(exported.named("delivery").len(), 0, "the router makes none of its own");
}

#[tokio::test]
async fn a_message_continues_its_publishers_trace_if_that_is_asked_for() {
    let exported = Exported::new();
    let source = source([carrying("m-1"), Message::with_id("m-2", "x")]);
    let handler = Handler::new("bill", async |_: Message| {}).from(source.clone(), "orders");
    run(Traces::new().continues(true).on(Router::new()).add(handler), &source, 2).await;
    let handled = exported.named("process orders");
    let context = &handled[0].span_context;
    assert_eq!(format!("00-{}-{}-01", context.trace_id(), handled[0].parent_span_id), PARENT);
    assert!(handled[0].parent_span_is_remote);
    assert_links_to_parent(&handled[0]);
    assert_is_root(&handled[1]);
}

#[tokio::test]
async fn what_a_handler_publishes_is_sent_in_the_span_of_its_message() {
    let exported = Exported::new();
    let source = source([carrying("m-1")]);
    let (invoices, mails) = (RecordingPublisher::new(), RecordingPublisher::new());
    let mailer = Traces::new().publisher(mails.clone());
    let bill = move |_: Message| {
        let mailer = mailer.clone();
        async move {
            mailer.publish_one("mails", Message::new("mail")).await?;
            Ok::<_, BoxError>(Message::new("invoice"))
        }
    };
    let handler = Handler::new("bill", bill).from(source.clone(), "orders").to(invoices.clone(), "invoices");
    run(router().add(handler), &source, 1).await;
    let process = exported.one("process orders");
    for (send, publisher) in [(exported.one("send invoices"), invoices), (exported.one("send mails"), mails)]
    {
        assert_is_child(&send, &process);
        assert_eq!(send.span_kind, SpanKind::Producer);
        let (_, message) = publisher.all_published().remove(0);
        assert_eq!(message.metadata().get("traceparent"), Some(&*traceparent(&send)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_lasts_until_the_outputs_are_accepted_and_fails_with_them() {
    let exported = Exported::new();
    let source = source([carrying("m-1")]);
    let invoices = RecordingPublisher::new().with_latency(Duration::from_secs(1));
    invoices.fail_next(1, PublishErrorKind::Unavailable);
    let handler = Handler::new("bill", async |_: Message| Message::new("invoice"))
        .from(source.clone(), "orders")
        .to(invoices.clone(), "invoices");
    run(router().add(handler), &source, 1).await;
    let order: Vec<_> = exported.all().iter().map(|span| span.name.to_string()).collect();
    assert_eq!(order[..2], ["send invoices", "process orders"]);
    let process = &exported.named("process orders")[0];
    assert!(matches!(process.status, Status::Error { .. }), "{:?}", process.status);
    assert_attributes(process, &[("error.type", "unavailable")]);
}

#[tokio::test]
async fn a_handler_that_fails_or_panics_gives_its_span_the_status() {
    let exported = Exported::new();
    let source = source([carrying("fails"), carrying("panics"), carrying("passes")]);
    let bill = async |message: Message| match message.id().as_str() {
        "fails" => Err(BoxError::from("out of stock")),
        "panics" => panic!("divided by zero"),
        _ => Ok(()),
    };
    let handler = Handler::new("bill", bill)
        .from(source.clone(), "orders")
        .on_failure(FailurePolicy::retry(0).then_drop());
    run(router().add(handler), &source, 3).await;
    let spans = exported.named("process orders");
    assert_eq!(spans[0].status, Status::error("out of stock"));
    assert_attributes(&spans[0], &[("error.type", "_OTHER")]);
    assert_attributes(&spans[1], &[("error.type", "panic")]);
    let Status::Error { description } = &spans[1].status else { panic!("{:?}", spans[1].status) };
    assert!(description.contains("divided by zero"), "{description}");
    assert_eq!((&spans[2].status, attribute(&spans[2], "error.type")), (&Status::Unset, None));
}

#[tokio::test(start_paused = true)]
async fn each_try_has_a_span_which_does_not_last_as_long_as_the_wait_for_the_next() {
    let exported = Exported::new();
    let source = source([carrying("m-1")]);
    let tries = AtomicU32::new(0);
    let ended_by_then = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = ended_by_then.clone();
    let bill = tower::service_fn(move |_: Message| {
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        seen.lock().unwrap().push(tracing::Span::current().context().span().span_context().clone());
        async move { if first { Err(BoxError::from("busy")) } else { Ok(watermill_core::Outputs::none()) } }
    });
    let handler =
        Handler::service("bill", bill).from(source.clone(), "orders").on_failure(FailurePolicy::retry(3));
    run(router().add(handler), &source, 1).await;
    let spans = exported.named("process orders");
    assert_eq!(spans.len(), 2);
    assert_eq!((&spans[0].status, &spans[1].status), (&Status::error("busy"), &Status::Unset));
    for (span, context) in spans.iter().zip(&*ended_by_then.lock().unwrap()) {
        assert_links_to_parent(span);
        assert_eq!(span.span_context.span_id(), context.span_id());
    }
    assert!(spans[0].end_time <= spans[1].start_time);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_sent_in_the_span_that_has_failed_and_carries_what_its_message_did() {
    let exported = Exported::new();
    let source = source([carrying("m-1")]);
    let dead = RecordingPublisher::new();
    let policy = FailurePolicy::retry(0).then_dead_letter(Traces::new().publisher(dead.clone()), "dead");
    let handler = Handler::new("bill", async |_: Message| Err::<(), _>(BoxError::from("no")))
        .from(source.clone(), "orders")
        .on_failure(policy);
    run(router().add(handler), &source, 1).await;
    let send = exported.one("send dead");
    assert_is_child(&send, &exported.one("process orders"));
    assert_links_to_parent(&send);
    assert_eq!(dead.published("dead")[0].metadata().get("traceparent"), Some(PARENT));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_span_that_links_to_all_of_its_messages() {
    let exported = Exported::new();
    let orders = RecordingPublisher::new();
    let messages = ["1", "2", "3"].map(|id| Message::with_id(id, "x")).to_vec();
    let publisher = Traces::new().publisher(orders.clone());
    watermill_core::Publisher::publish(&publisher, "orders", messages).await.unwrap();
    let source = source(orders.published("orders"));
    let invoices = RecordingPublisher::new();
    let bill = async |messages: Vec<Message>| {
        tracing::info_span!("inside").in_scope(|| {});
        let outcome = |message: Message| match message.id().as_str() {
            "2" => Err(BoxError::from("out of stock")),
            id => Ok(Message::with_id(format!("invoice {id}"), "x")),
        };
        messages.into_iter().map(outcome).collect::<Vec<_>>()
    };
    let handler = Handler::batch("bill", 3, Duration::from_secs(1), bill)
        .from(source.clone(), "orders")
        .to(invoices.clone(), "invoices")
        .on_failure(FailurePolicy::retry(0).then_drop());
    run(router().add(handler), &source, 3).await;
    let process = exported.one("process orders");
    assert_is_root(&process);
    assert_eq!(process.span_kind, CONSUMER);
    assert_links(&process, &exported.named("create orders").iter().collect::<Vec<_>>());
    assert_attributes(&process, &[("messaging.batch.message_count", "3"), ("error.type", "_OTHER")]);
    assert_eq!(process.status, Status::error("out of stock"));
    assert_is_child(&exported.one("inside"), &process);
    let send = exported.one("send invoices");
    assert_is_child(&send, &process);
    assert_links(&send, &exported.named("create invoices").iter().collect::<Vec<_>>());
    for message in invoices.published("invoices") {
        assert_eq!(format!("{:?}", message.extensions()), "Extensions(0)", "what the core notes stays there");
        assert!(message.metadata().contains("traceparent"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_outputs_are_refused_gives_its_span_the_status_once() {
    for (fails, error_type) in [(false, "refused"), (true, "_OTHER")] {
        let exported = Exported::new();
        let source = source([carrying("1"), carrying("2"), carrying("3")]);
        let invoices = RecordingPublisher::new();
        invoices.fail_next(1, PublishErrorKind::Refused);
        let bill = move |messages: Vec<Message>| async move {
            let outcome = |message: Message| match message.id().as_str() {
                "2" if fails => Err(BoxError::from("out of stock")),
                _ => Ok(Message::new("invoice")),
            };
            messages.into_iter().map(outcome).collect::<Vec<_>>()
        };
        let handler = Handler::batch("bill", 3, Duration::from_secs(1), bill)
            .from(source.clone(), "orders")
            .to(invoices, "invoices")
            .on_failure(FailurePolicy::retry(0).then_drop());
        run(router().add(handler), &source, 3).await;
        let process = exported.one("process orders");
        assert!(matches!(process.status, Status::Error { .. }), "{:?}", process.status);
        let said: Vec<_> =
            process.attributes.iter().filter(|attribute| attribute.key.as_str() == "error.type").collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert_attributes(&process, &[("error.type", error_type)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_gives_its_span_the_status() {
    let exported = Exported::new();
    let source = source([carrying("1"), carrying("2")]);
    let bill = async |messages: Vec<Message>| {
        assert!(messages.is_empty(), "no batch is empty");
    };
    let handler = Handler::batch("bill", 2, Duration::from_secs(1), bill)
        .from(source.clone(), "orders")
        .on_failure(FailurePolicy::retry(0).then_drop());
    run(router().add(handler), &source, 2).await;
    let process = exported.one("process orders");
    assert!(matches!(process.status, Status::Error { .. }));
    assert_eq!(process.links.len(), 2);
}

#[tokio::test]
async fn handlers_have_the_baggage_of_their_message_if_it_is_asked_for() {
    use opentelemetry::{Context, baggage::BaggageExt};
    let _exported = Exported::new();
    for (traces, expected) in [(Traces::new(), None), (Traces::new().baggage(true), Some("seven"))] {
        let source = source([carrying("1").with_metadata("baggage", "tenant=seven")]);
        let tenant = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = tenant.clone();
        let bill = move |_: Message| {
            let seen = seen.clone();
            async move {
                let tenant =
                    Context::current().baggage().get("tenant").map(|value| value.as_str().to_owned());
                *seen.lock().unwrap() = tenant;
            }
        };
        let handler = Handler::new("bill", bill).from(source.clone(), "orders");
        run(traces.on(Router::new()).add(handler), &source, 1).await;
        assert_eq!(tenant.lock().unwrap().as_deref(), expected);
    }
}
