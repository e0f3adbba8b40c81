//! What is refused for itself: found, given up, and kept where nothing can refuse it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watermill_core::{Publisher as _, delivery::Outcome, error::PublishErrorKind};
use watermill_forwarder::{Envelope, Forwarder};
use watermill_testkit::ScriptedSubscriber;

use super::support::{Picky, acked, config, envelope, ids, keyed, numbers, start};

/// What the source was told to keep, in order.
fn rejected(source: &ScriptedSubscriber) -> Vec<String> {
    let reason = |outcome| if let Outcome::Reject { reason } = outcome { Some(reason) } else { None };
    source.outcomes().into_iter().filter_map(|(_, outcome)| reason(outcome)).collect()
}

/// Thirty messages with ten keys, of which number 13 is bad.
fn thirty(source: &ScriptedSubscriber) {
    for id in 0..30 {
        source.push(keyed("orders", &format!("k{}", id % 10), &id.to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_for_itself_is_kept_by_the_source_after_its_attempts() {
    for kind in [PublishErrorKind::Message, PublishErrorKind::Refused, PublishErrorKind::Unsupported] {
        let source = ScriptedSubscriber::new().dead_letters(true);
        thirty(&source);
        let destination = Picky::new();
        destination.refuse_as("13", kind);
        let begun = Instant::now();
        let forwarder = Forwarder::builder(source.clone(), destination.clone());
        let running = start(forwarder.config(config().attempts(3)));
        source.settled(30).await;
        let report = running.stop().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2), "{kind:?}: three attempts, two waits");
        assert_eq!((report.forwarded, report.dead_lettered), (29, 1), "{kind:?}");
        assert_eq!(report.destinations["orders"].dead_lettered, 1);
        let published = destination.published("orders");
        assert_eq!(published.last().unwrap(), "23", "{kind:?}: it waited behind 13, and nothing else did");
        let reasons = rejected(&source);
        assert_eq!(reasons.len(), 1);
        assert!(
            reasons[0].contains("publish to \"orders\"") && reasons[0].contains("attempts: 3"),
            "{reasons:?}"
        );
        assert!(destination.published("forwarder_dead_letter").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_without_a_key_holds_up_no_other() {
    let source = ScriptedSubscriber::new().dead_letters(true);
    for id in 0..30 {
        source.push(envelope("orders", &id.to_string()));
    }
    let destination = Picky::new();
    destination.refuse("13");
    let forwarder = Forwarder::builder(source.clone(), destination.clone());
    let running = start(forwarder.config(config().attempts(None)));
    source.settled(29).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(source.outcomes().len(), 29, "it is never given up where that is asked for");
    assert_eq!(running.stop().await.returned, 1);
    let expected: Vec<_> = numbers(0..30).into_iter().filter(|id| id != "13").collect();
    assert_eq!(destination.published("orders"), expected);
}

#[tokio::test(start_paused = true)]
async fn two_bad_messages_and_nothing_else_are_given_up_on_the_word_of_their_destination() {
    let source = ScriptedSubscriber::new().dead_letters(true);
    let destination = Picky::new();
    for id in ["0", "1"] {
        source.push(keyed("orders", id, id));
        destination.refuse(id);
    }
    let running = start(Forwarder::builder(source.clone(), destination).config(config()));
    source.settled(2).await;
    assert_eq!(running.stop().await.dead_lettered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_for_dead_letters_gets_the_envelope_as_it_came() {
    let source = ScriptedSubscriber::new().dead_letters(true);
    thirty(&source);
    let (destination, dead) = (Picky::new(), Picky::new());
    destination.refuse("13");
    let forwarder = Forwarder::builder(source.clone(), destination).dead_letters(dead.clone());
    let running = start(forwarder.config(config().attempts(3)));
    source.settled(30).await;
    running.stop().await;
    assert_eq!(acked(&source), 30);
    let letters = dead.record.published("forwarder_dead_letter");
    let inner: Vec<_> =
        letters.iter().map(|letter| Envelope::unwrap(letter).unwrap().message().clone()).collect();
    assert_eq!(ids(&inner), ["13"], "a dead letter can be sent again as it is");
    let metadata = letters[0].metadata();
    assert_eq!(metadata.get("topic_poisoned"), Some("forwarder_topic"));
    assert_eq!(metadata.get("handler_poisoned"), Some("forwarder"));
    assert_eq!(metadata.get("attempts_poisoned"), Some("3"));
    assert!(metadata.get("reason_poisoned").unwrap().contains("publish to \"orders\""));
}

#[tokio::test(start_paused = true)]
async fn what_the_publisher_for_dead_letters_does_not_take_the_source_keeps() {
    for kind in [PublishErrorKind::Message, PublishErrorKind::Unavailable, PublishErrorKind::Closed] {
        let source = ScriptedSubscriber::new().dead_letters(true);
        thirty(&source);
        let (destination, dead) = (Picky::new(), Picky::new());
        destination.refuse("13");
        if kind == PublishErrorKind::Closed {
            dead.close().await.unwrap();
        }
        dead.take_down("forwarder_dead_letter", kind);
        let forwarder = Forwarder::builder(source.clone(), destination).dead_letters(dead);
        let running = start(forwarder.config(config()));
        source.settled(30).await;
        assert_eq!(running.stop().await.dead_lettered, 1);
        assert_eq!(rejected(&source).len(), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_keeps_a_dead_letter_its_message_is_held_and_others_go_on() {
    let source = ScriptedSubscriber::new();
    thirty(&source);
    let destination = Picky::new();
    destination.refuse("13");
    destination.take_down("forwarder_dead_letter", PublishErrorKind::Message);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(28).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(acked(&source), 28, "13 waits, and 23 behind it");
    destination.bring_up("forwarder_dead_letter");
    source.settled(30).await;
    assert_eq!(running.stop().await.dead_lettered, 1);
    assert_eq!(destination.published("orders").last().unwrap(), "23");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_takes_no_turn_from_what_is_behind_it() {
    let source = ScriptedSubscriber::new().dead_letters(true);
    let destination = Picky::new();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    for id in ["0", "1", "2", "3", "4"] {
        destination.refuse_as(id, PublishErrorKind::Refused);
        source.push(keyed("orders", id, id));
        sleep(Duration::from_millis(230)).await;
    }
    source.push(keyed("orders", "good", "good"));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(destination.published("orders"), ["good"]);
    assert_eq!(rejected(&source).len(), 5, "the others are told from it");
    running.stop().await;
}
