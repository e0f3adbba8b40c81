//! However many topics and handlers there are, the page does not grow without end.

use watermill_core::{Message, Publisher, PublisherExt};
use watermill_telemetry::Metrics;
use watermill_testkit::RecordingPublisher;

use crate::{sample, samples};

#[tokio::test]
async fn topics_beyond_the_bound_are_counted_together() {
    let metrics = Metrics::builder().topics_max(2).prometheus();
    let publisher = metrics.publisher(RecordingPublisher::new());
    for tenant in 0..50 {
        publisher.publish_one(&format!("orders.{tenant}"), Message::new("x")).await.unwrap();
    }
    publisher.publish_one("orders.1", Message::new("x")).await.unwrap();
    let counts: Vec<_> = samples(&metrics)
        .into_iter()
        .filter(|(name, _)| name.starts_with("watermill_publish_batch_messages_count"))
        .collect();
    let count = |topic| {
        format!(r#"watermill_publish_batch_messages_count{{publisher_name="recording",topic="{topic}"}}"#)
    };
    assert_eq!(counts, [(count("orders.0"), 1.0), (count("orders.1"), 2.0), (count("other"), 48.0)]);
}

#[tokio::test]
async fn handlers_beyond_the_bound_are_counted_together() {
    let metrics = Metrics::builder().names_max(2).prometheus();
    let publisher = metrics.publisher(RecordingPublisher::new());
    for number in 0..50 {
        let handler = watermill_core::HandlerInfo::consumer(format!("tenant-{number}"), "memory", "in");
        let message = Message::new("x").with_handler(handler.into());
        publisher.publish("out", vec![message]).await.unwrap();
    }
    let count = |handler| {
        format!(
            r#"publish_time_seconds_count{{handler_name="{handler}",publisher_name="recording",success="true"}}"#
        )
    };
    // The publisher's name is the first of the two.
    assert_eq!(sample(&metrics, &count("tenant-0")), 1.0);
    assert_eq!(sample(&metrics, &count("other")), 49.0);
}

#[tokio::test]
async fn no_label_holds_an_id() {
    let metrics = Metrics::prometheus();
    let publisher = metrics.publisher(RecordingPublisher::new());
    publisher.publish_one("orders", Message::with_id("id-4711", "x").with_key("key-4711")).await.unwrap();
    assert!(!metrics.render().unwrap().contains("4711"));
}
