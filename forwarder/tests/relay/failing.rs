//! What a forwarder does when destinations fail.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::sleep;
use watermill_core::{Backoff, MemoryBroker, Subscriber, error::PublishErrorKind, memory::MemoryConfig};
use watermill_forwarder::Forwarder;
use watermill_testkit::ScriptedSubscriber;

use super::support::{Picky, acked, config, envelope, keyed, numbers, source_of, start};

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

#[tokio::test(start_paused = true)]
async fn whatever_ails_a_whole_destination_is_waited_for_and_dead_letters_nothing() {
    use PublishErrorKind::{Message, Refused, Timeout, Topic, Unavailable, Unsupported};
    for kind in [Unavailable, Timeout, Topic, Refused, Unsupported, Message] {
        let source = ScriptedSubscriber::new().dead_letters(true);
        for id in 0..40 {
            source.push(keyed("down", &format!("k{}", id % 8), &format!("{id:02}")));
        }
        source.push(envelope("up", "40"));
        let destination = Picky::new();
        destination.take_down("down", kind);
        let forwarder = Forwarder::builder(source.clone(), destination.clone());
        let running = start(forwarder.config(config().attempts(2)));
        sleep(Duration::from_secs(600)).await;
        assert_eq!(acked(&source), 1, "{kind:?}: the other destination goes on");
        assert_eq!(source.outcomes().len(), 1, "{kind:?}: and nothing is given up");

        destination.bring_up("down");
        source.settled(41).await;
        let report = running.stop().await;
        assert_eq!((report.forwarded, report.dead_lettered), (41, 0), "{kind:?}");
        for key in 0..8 {
            let of_key: Vec<_> = destination
                .published("down")
                .into_iter()
                .filter(|id| id.parse::<usize>().unwrap() % 8 == key)
                .collect();
            assert!(of_key.is_sorted() && of_key.len() == 5, "{kind:?}: {of_key:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_to_a_destination_that_is_away_become_ever_rarer() {
    let source = source_of("down", 10);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(0.0);
    let running = start(Forwarder::builder(source, destination.clone()).config(config().backoff(backoff)));
    sleep(Duration::from_secs(3600)).await;
    // 100 ms, 200 ms .. 25.6 s, and then one in 30 s.
    assert_eq!(destination.calls(), 10 + (3600 - 51) / 30);
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_due_while_a_batch_is_gathered_waits_for_it_at_rest() {
    let source = source_of("down", 1);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let config = config().linger(Duration::from_millis(100));
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config));
    // Its second call is due after 1,100 ms, in the middle of the next batch.
    sleep(Duration::from_millis(1_050)).await;
    source.push(envelope("up", "1"));
    source.settled(1).await;
    destination.bring_up("down");
    source.settled(2).await;
    running.stop().await;
}
