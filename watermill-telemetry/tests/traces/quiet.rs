//! Where nobody listens, or nobody to anything else.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use watermill_core::{Handler, Message, Publisher};
use watermill_forwarder::{Envelope, Forwarder};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::support::{Exported, assert_links_to_parent, carrying, router, run};

#[tokio::test]
async fn where_nobody_listens_messages_are_as_they_were() {
    let _nobody = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let source = ScriptedSubscriber::new();
    source.push(Message::with_id("1", "x"));
    let invoices = RecordingPublisher::new();
    let handler = Handler::new("bill", async |_: Message| Message::with_id("invoice", "x"))
        .from(source.clone(), "orders")
        .to(invoices.clone(), "invoices");
    run(router().add(handler), &source, 1).await;
    Traces::new()
        .publisher(invoices.clone())
        .publish("invoices", vec![Message::with_id("a", "x"), Message::with_id("b", "x")])
        .await
        .unwrap();
    for message in invoices.published("invoices") {
        assert!(message.metadata().is_empty(), "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_leaves_nothing_but_these_spans_leaves_all_of_them() {
    let exported = Exported::filtered(Targets::new().with_target("watermill_telemetry", LevelFilter::INFO));
    let source = ScriptedSubscriber::new();
    source.push(carrying("1"));
    source.push(carrying("2"));
    let one = Handler::new("one", async |_: Message| {}).from(source.clone(), "orders");
    run(router().add(one), &source, 2).await;
    assert_eq!(exported.named("process orders").len(), 2);

    let batches = ScriptedSubscriber::new();
    batches.push(carrying("1"));
    batches.push(carrying("2"));
    let all = Handler::batch("all", 2, Duration::from_secs(1), async |_: Vec<Message>| {});
    run(router().add(all.from(batches.clone(), "mails")), &batches, 2).await;
    assert_eq!(exported.one("process mails").links.len(), 2);

    let outbox = ScriptedSubscriber::new();
    outbox.push(Envelope::new("invoices", carrying("1")).wrap());
    let destination = RecordingPublisher::new();
    let forwarder = Forwarder::builder(outbox, destination.clone()).spans(Traces::new()).build().unwrap();
    let arrived = async {
        destination.await_published(1).await;
    };
    forwarder.run_until(arrived).await.unwrap();
    assert_links_to_parent(&exported.one("forward invoices"));
}
