//! What a forwarder does when destinations fail.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep};
use watermill_core::{MemoryBroker, Subscriber, error::PublishErrorKind, memory::MemoryConfig};
use watermill_forwarder::{Envelope, Forwarder};
use watermill_testkit::ScriptedSubscriber;

use super::support::{Picky, acked, config, envelope, ids, keyed, numbers, source_of, start};

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_blocks_nobody_but_itself_and_keeps_its_order() {
    let source = ScriptedSubscriber::new();
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    for id in 0..100 {
        source.push(envelope(if id < 10 { "down" } else { "up" }, &id.to_string()));
    }
    source.push(envelope("down", "100"));
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(90).await;
    assert_eq!(destination.published("up"), numbers(10..100));
    assert_eq!(destination.published("down"), [""; 0]);

    destination.bring_up("down");
    source.settled(101).await;
    let report = running.stop().await;
    assert_eq!(destination.published("down"), [numbers(0..10), vec!["100".to_owned()]].concat());
    assert_eq!((report.forwarded, report.dead_lettered), (101, 0));
    assert_eq!(acked(&source), 101);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_alone_blocks_only_itself() {
    let source = ScriptedSubscriber::new();
    let destination = Picky::new().accepting_in_part().slowly();
    destination.refuse("a0");
    for id in 0..20 {
        source.push(keyed("orders", "a", &format!("a{id}")));
        source.push(keyed("orders", "b", &format!("b{id}")));
    }
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(20).await;
    let of_key = |key: &str| (0..20).map(|id| format!("{key}{id}")).collect::<Vec<_>>();
    assert_eq!(destination.published("orders"), of_key("b"));
    // Another attempt, with all of the key that waits.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(destination.published("orders"), of_key("b"));

    destination.relent("a0");
    source.settled(40).await;
    running.stop().await;
    assert_eq!(destination.published("orders"), [of_key("b"), of_key("a")].concat());
}

#[tokio::test(start_paused = true)]
async fn what_is_blocked_is_bounded_and_at_the_bound_nothing_more_is_taken() {
    let source = source_of("down", 200);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let config = config().max_blocked(30).attempts(None);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config));
    sleep(Duration::from_secs(3600)).await;
    // What was taken before the failure was seen comes on top.
    assert!(source.handed_out() <= 30 + 20, "{}", source.handed_out());
    assert!(source.outcomes().is_empty());
    destination.bring_up("down");
    source.settled(200).await;
    running.stop().await;
    assert_eq!(destination.published("down"), numbers(0..200));
}

#[tokio::test(start_paused = true)]
async fn after_so_many_attempts_messages_are_dead_lettered_and_later_ones_have_one_attempt() {
    let source = source_of("down", 5);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let begun = Instant::now();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config().attempts(3)));
    source.settled(5).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "three attempts, two waits");

    source.push(envelope("down", "5"));
    source.settled(6).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "one attempt, no wait");

    destination.bring_up("down");
    source.push(envelope("down", "6"));
    source.settled(7).await;
    let report = running.stop().await;
    assert_eq!((report.forwarded, report.dead_lettered), (1, 6));
    assert_eq!(report.destinations["down"].dead_lettered, 6);

    let letters = destination.record.published("forwarder_dead_letter");
    let inner: Vec<_> =
        letters.iter().map(|letter| Envelope::unwrap(letter).unwrap().message().clone()).collect();
    assert_eq!(ids(&inner), numbers(0..6), "a dead letter can be sent again as it is");
    let metadata = letters[0].metadata();
    assert_eq!(metadata.get("topic_poisoned"), Some("forwarder_topic"));
    assert_eq!(metadata.get("handler_poisoned"), Some("forwarder"));
    assert_eq!(metadata.get("attempts_poisoned"), Some("3"));
    assert!(metadata.get("reason_poisoned").unwrap().contains("publish to \"down\""));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_represented_is_dead_lettered_at_once_and_its_neighbours_are_not() {
    let source = source_of("orders", 30);
    let destination = Picky::new();
    destination.refuse("13");
    let begun = Instant::now();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(30).await;
    let report = running.stop().await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "it does not wait for what cannot be mended");
    assert_eq!((report.forwarded, report.dead_lettered), (29, 1));
    let expected: Vec<_> = numbers(0..30).into_iter().filter(|id| id != "13").collect();
    assert_eq!(destination.published("orders"), expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_dead_lettered_without_waiting() {
    for kind in [PublishErrorKind::Topic, PublishErrorKind::Refused, PublishErrorKind::Unsupported] {
        let source = source_of("no such topic", 10);
        source.push(envelope("orders", "10"));
        let destination = Picky::new();
        destination.take_down("no such topic", kind);
        let begun = Instant::now();
        let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
        source.settled(11).await;
        let report = running.stop().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!((report.forwarded, report.dead_lettered), (1, 10), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_dead_letters_cannot_be_published_either_nothing_is_lost_and_a_recovery_forwards() {
    let source = source_of("down", 10);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    destination.take_down("forwarder_dead_letter", PublishErrorKind::Unavailable);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config().attempts(2)));
    sleep(Duration::from_secs(3600)).await;
    assert!(source.outcomes().is_empty());
    destination.bring_up("down");
    destination.bring_up("forwarder_dead_letter");
    source.settled(10).await;
    let report = running.stop().await;
    assert_eq!((report.forwarded, report.dead_lettered), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_takes_fewer_messages_at_once_than_a_batch_gets_them_all() {
    // A group of the in-memory broker refuses a call that could never fit.
    let broker = MemoryBroker::with_config(MemoryConfig::default().capacity(3)).unwrap();
    let mut orders = broker.subscriber().subscribe("orders").await.unwrap();
    let source = source_of("orders", 50);
    let running = start(Forwarder::builder(source.clone(), broker.publisher()).config(config()));
    for id in 0..50 {
        let delivery = orders.next().await.unwrap().unwrap();
        assert_eq!(delivery.id().as_str(), id.to_string());
        delivery.ack();
    }
    source.settled(50).await;
    let report = running.stop().await;
    assert_eq!((report.forwarded, report.dead_lettered), (50, 0));
}
