//! The names of attributes are those of the conventions.

use std::collections::BTreeSet;

use opentelemetry_semantic_conventions::{SCHEMA_URL, attribute as names};
use watermill_core::{Handler, Message, error::PublishErrorKind};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::support::{Exported, carrying, router, run};

const KNOWN: &[&str] = &[
    names::ERROR_TYPE,
    names::MESSAGING_BATCH_MESSAGE_COUNT,
    names::MESSAGING_CONSUMER_GROUP_NAME,
    names::MESSAGING_DESTINATION_NAME,
    names::MESSAGING_DESTINATION_PARTITION_ID,
    names::MESSAGING_GCP_PUBSUB_MESSAGE_DELIVERY_ATTEMPT,
    names::MESSAGING_GCP_PUBSUB_MESSAGE_ORDERING_KEY,
    names::MESSAGING_KAFKA_MESSAGE_KEY,
    names::MESSAGING_KAFKA_MESSAGE_TOMBSTONE,
    names::MESSAGING_KAFKA_OFFSET,
    names::MESSAGING_MESSAGE_ID,
    names::MESSAGING_OPERATION_NAME,
    names::MESSAGING_OPERATION_TYPE,
    names::MESSAGING_SYSTEM,
];

#[test]
fn every_name_in_the_source_is_one_of_the_conventions_or_ours() {
    assert_eq!(SCHEMA_URL, "https://opentelemetry.io/schemas/1.42.0", "the page of `traces` names a version");
    let known: BTreeSet<&str> = KNOWN.iter().copied().collect();
    let mut used = BTreeSet::new();
    for source in [include_str!("../../src/traces/spans.rs"), include_str!("../../src/traces/publisher.rs")] {
        let fields = source.lines().filter_map(|line| line.trim().split_once(" = "));
        used.extend(
            fields
                .map(|(name, _)| name)
                .filter(|name| name.starts_with("messaging.") || name.starts_with("error.")),
        );
    }
    assert_eq!(used, known);
}

#[tokio::test]
async fn nothing_else_is_exported_than_what_the_page_tells() {
    let exported = Exported::new();
    let source = ScriptedSubscriber::new();
    source.push(carrying("1"));
    let invoices = RecordingPublisher::new();
    invoices.fail_next(1, PublishErrorKind::Unavailable);
    let handler = Handler::new("bill", async |_: Message| Message::new("invoice"))
        .from(source.clone(), "orders")
        .to(Traces::new().publisher(invoices), "invoices");
    run(router().add(handler), &source, 1).await;
    let page = include_str!("../../src/traces/mod.rs");
    for span in exported.all() {
        for attribute in &span.attributes {
            let name = attribute.key.as_str();
            // What the layer adds by itself: where in the code, in which thread, how busy.
            let is_the_layers = ["code.", "thread.", "busy_ns", "idle_ns", "target", "level"];
            assert!(
                is_the_layers.iter().any(|prefix| name.starts_with(prefix))
                    || KNOWN.contains(&name)
                    || page.contains(&format!("`{name}`")),
                "{name} of {}",
                span.name
            );
        }
    }
}
