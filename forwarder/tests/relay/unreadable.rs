//! What becomes of messages that are no envelopes.

use std::time::Duration;

use tokio::time::sleep;
use watermill_core::{Message, delivery::Outcome};
use watermill_forwarder::{Forwarder, OnUnreadable};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use super::support::{config, envelope, ids, numbers, start};

const FOREIGN: [&str; 5] = [r#"{"uuid":"1"}"#, "not JSON", "[1,2]", "", r#"{"destination_topic":""}"#];

#[tokio::test(start_paused = true)]
async fn what_is_no_envelope_goes_to_the_dead_letter_topic_and_holds_nothing_up() {
    let source = ScriptedSubscriber::new();
    for (id, json) in FOREIGN.into_iter().enumerate() {
        source.push(Message::with_id(format!("foreign-{id}"), json).with_metadata("kept", "yes"));
        source.push(envelope("orders", &id.to_string()));
    }
    let (destination, dead) = (RecordingPublisher::new(), RecordingPublisher::new());
    let config = config().dead_letter_topic("dead");
    let running = start(
        Forwarder::builder(source.clone(), destination.clone()).dead_letters(dead.clone()).config(config),
    );
    source.settled(10).await;
    let report = running.stop().await;
    assert_eq!((report.forwarded, report.dead_lettered), (5, 5));
    assert_eq!(ids(&destination.published("orders")), numbers(0..5));
    let letters = dead.published("dead");
    for (letter, json) in letters.iter().zip(FOREIGN) {
        assert_eq!(letter.payload(), json);
        assert_eq!(letter.metadata().get("kept"), Some("yes"));
        assert_eq!(letter.metadata().get("topic_poisoned"), Some("forwarder_topic"));
        assert!(letter.metadata().get("reason_poisoned").unwrap().starts_with("unwrap the envelope"));
    }
    assert_eq!(letters.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_envelope_is_acked_if_asked_for() {
    let source = ScriptedSubscriber::new();
    source.push(Message::with_id("foreign", "[]"));
    let destination = RecordingPublisher::new();
    let config = config().on_unreadable(OnUnreadable::Ack);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config));
    assert_eq!(source.settled(1).await, [("foreign".into(), Outcome::Ack)]);
    assert_eq!(running.stop().await.dropped, 1);
    assert!(destination.all_published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_envelope_is_nacked_after_a_wait_if_asked_for() {
    // P30: in Go what is nacked comes again at once, 232,103 times a second.
    let source = ScriptedSubscriber::new().redeliver(true);
    source.push(Message::with_id("foreign", "[]"));
    let destination = RecordingPublisher::new();
    let config = config().on_unreadable(OnUnreadable::Nack);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config));
    sleep(Duration::from_millis(60_500)).await;
    assert_eq!(source.handed_out(), 61, "once a second and not more");
    assert_eq!(running.stop().await.returned, 1);
}
