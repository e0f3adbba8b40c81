//! The figures of a relay in this process.

use std::{future::pending, time::Duration};

use tokio::time::sleep;
use watermill_core::{MemoryBroker, Message, PublisherExt, Subscriber, router::Phase};
use watermill_forwarder::{Forwarder, ForwarderPublisher};
use watermill_telemetry::{Metrics, Watched};
use watermill_testkit::{Faults, Faulty, RecordingPublisher};

use crate::sample;

#[tokio::test]
async fn a_relay_is_seen_under_the_names_of_the_daemon() {
    let (metrics, broker) = (Metrics::prometheus(), MemoryBroker::new());
    let (out, letters) = (RecordingPublisher::new(), RecordingPublisher::new());
    let forwarder =
        Forwarder::builder(broker.subscriber(), out.clone()).dead_letters(letters.clone()).build().unwrap();
    let topic = forwarder.config().topic.clone();
    broker.subscriber().initialize(&topic).await.unwrap();
    let control = forwarder.control();
    let watch = metrics.watch(Watched::new().relay("outbox", control.clone()));
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_forwarder_relay_up{relay="outbox"}"#), 0.0);

    let task = tokio::spawn(async move { forwarder.run_until(pending()).await });
    control.reached(Phase::Running).await;
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_forwarder_relay_up{relay="outbox"}"#), 1.0);
    assert_eq!(sample(&metrics, r#"watermill_forwarder_relay_active{relay="outbox"}"#), 1.0);
    let publisher = ForwarderPublisher::new(broker.publisher());
    publisher.publish_one("orders", Message::new("a")).await.unwrap();
    broker.publisher().publish_one(&topic, Message::new("no envelope")).await.unwrap();
    out.await_published(1).await;
    letters.await_published(1).await;

    control.stop();
    task.await.unwrap().unwrap();
    watch.update();
    watch.update();
    let outbox = control.status().counts.outbox;
    assert_eq!(outbox.messages, 1, "the in-memory broker says when a message was written");
    let sum = sample(&metrics, r#"watermill_forwarder_outbox_seconds_sum{relay="outbox"}"#);
    assert!((sum - outbox.total.as_secs_f64()).abs() < 1e-9, "{sum} {outbox:?}");
    for (name, value) in [
        (r#"watermill_forwarder_outbox_seconds_count{relay="outbox"}"#, 1.0),
        (r#"watermill_forwarder_relay_up{relay="outbox"}"#, 0.0),
        (r#"watermill_forwarder_relay_active{relay="outbox"}"#, 0.0),
        (r#"watermill_forwarder_forwarded_total{destination="orders",relay="outbox"}"#, 1.0),
        (r#"watermill_forwarder_dead_lettered_total{reason="unreadable",relay="outbox"}"#, 1.0),
    ] {
        assert_eq!(sample(&metrics, name), value, "{name}");
    }
}

#[tokio::test]
async fn what_a_relay_held_it_holds_no_longer_when_it_has_ended() {
    let (metrics, broker) = (Metrics::prometheus(), MemoryBroker::new());
    let away = Faulty::new(RecordingPublisher::new(), Faults::seeded(1).fail_before_send(1.0));
    let forwarder = Forwarder::builder(broker.subscriber(), away).build().unwrap();
    broker.subscriber().initialize(&forwarder.config().topic).await.unwrap();
    let control = forwarder.control();
    let watch = metrics.watch(Watched::new().relay("outbox", control.clone()));
    let task = tokio::spawn(async move { forwarder.run_until(pending()).await });
    control.reached(Phase::Running).await;
    ForwarderPublisher::new(broker.publisher()).publish_one("orders", Message::new("a")).await.unwrap();
    while control.status().held.is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    let held = r#"watermill_forwarder_held_messages{destination="orders",relay="outbox"}"#;
    watch.update();
    assert_eq!(sample(&metrics, held), 1.0);

    control.stop();
    task.await.unwrap().unwrap();
    watch.update();
    assert_eq!(sample(&metrics, held), 0.0);
}
