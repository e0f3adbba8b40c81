//! What a forwarder does while all is well.

use std::time::Duration;

use tokio::{time::Instant, time::sleep};
use watermill_core::Message;
use watermill_forwarder::{Envelope, Forwarder};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use super::support::{acked, config, envelope, ids, numbers, source_of, start};

#[tokio::test(start_paused = true)]
async fn messages_arrive_at_their_destination_as_they_were_and_in_order() {
    let source = ScriptedSubscriber::new();
    let messages: Vec<_> = (0..25)
        .map(|id| Message::with_id(id.to_string(), vec![id, 0xff]).with_key("k").with_metadata("a", "b"))
        .collect();
    for message in &messages {
        source.push(Envelope::new("orders", message.clone()).wrap());
    }
    let destination = RecordingPublisher::new();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(25).await;
    let report = running.stop().await;

    assert_eq!(source.subscribed(), ["forwarder_topic"]);
    assert_eq!(destination.published("orders"), messages);
    assert_eq!(acked(&source), 25);
    assert_eq!((report.forwarded, report.destinations["orders"].forwarded), (25, 25));
    assert_eq!((report.dead_lettered, report.dropped, report.returned), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_call_takes_a_whole_batch_for_a_destination_and_destinations_do_not_wait_for_each_other() {
    let source = ScriptedSubscriber::new();
    for id in 0..10 {
        source.push(envelope(if id % 2 == 0 { "even" } else { "odd" }, &id.to_string()));
    }
    let destination = RecordingPublisher::new().with_latency(Duration::from_millis(50));
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    destination.await_calls(2).await;
    assert_eq!(destination.calls(), [("even".to_owned(), 5), ("odd".to_owned(), 5)]);
    assert_eq!(destination.in_flight(), 2);
    source.settled(10).await;
    running.stop().await;
    assert_eq!(ids(&destination.published("even")), ["0", "2", "4", "6", "8"]);
    assert_eq!(ids(&destination.published("odd")), ["1", "3", "5", "7", "9"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_taken_while_one_is_on_its_way_and_no_more() {
    let source = source_of("orders", 100);
    let destination = RecordingPublisher::new();
    destination.hold();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.await_handed_out(20).await;
    sleep(Duration::from_millis(900)).await;
    assert_eq!(source.handed_out(), 20);
    assert_eq!(destination.calls(), [("orders".to_owned(), 10)]);
    destination.release();
    source.settled(100).await;
    running.stop().await;
    assert_eq!(ids(&destination.published("orders")), numbers(0..100));
    assert_eq!(destination.calls().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_linger_fills_the_batch_and_a_full_batch_does_not_wait_for_it() {
    let source = ScriptedSubscriber::new();
    let destination = RecordingPublisher::new();
    let config = config().linger(Duration::from_millis(100));
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config));
    let begun = Instant::now();
    source.push(envelope("orders", "0"));
    sleep(Duration::from_millis(60)).await;
    source.push(envelope("orders", "1"));
    destination.await_calls(1).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(destination.calls(), [("orders".to_owned(), 2)]);

    for id in 2..12 {
        source.push(envelope("orders", &id.to_string()));
    }
    let begun = Instant::now();
    destination.await_calls(2).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    running.stop().await;
    assert_eq!(ids(&destination.published("orders")), numbers(0..12));
}

#[tokio::test(start_paused = true)]
async fn two_forwarders_run_in_one_process() {
    // P20: Go's handler name is fixed, so that the second one panics.
    let destination = RecordingPublisher::new();
    let (orders, bills) = (source_of("orders", 10), source_of("bills", 10));
    let first = start(Forwarder::builder(orders.clone(), destination.clone()).config(config()));
    let second =
        start(Forwarder::builder(bills.clone(), destination.clone()).config(config().topic("bills-outbox")));
    orders.settled(10).await;
    bills.settled(10).await;
    assert_eq!(first.stop().await.forwarded + second.stop().await.forwarded, 20);
    assert_eq!(bills.subscribed(), ["bills-outbox"]);
}
