//! How a forwarder ends: asked to, by a crash, or because it cannot go on.

use std::time::Duration;

use tokio::{time::Instant, time::sleep};
use watermill_core::{
    Publisher,
    error::{PublishErrorKind, SubscribeError, SubscribeErrorKind},
};
use watermill_forwarder::{Forwarder, ForwarderConfig, ForwarderErrorKind, ForwarderReport};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use super::support::{Picky, acked, config, envelope, ids, numbers, source_of, start};

#[tokio::test(start_paused = true)]
async fn a_stop_publishes_and_acks_what_is_in_hand_and_gives_nothing_back() {
    let source = source_of("orders", 100);
    let destination = RecordingPublisher::new();
    destination.hold();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    destination.await_calls(1).await;
    running.ask_to_stop();
    source.await_stopped(1).await;
    destination.release();
    let report = running.end().await.unwrap();

    assert_eq!(report.returned, 0);
    assert_eq!(source.closed(), 1, "closed, not dropped");
    assert_eq!(source.handed_out() as u64, report.forwarded);
    assert_eq!(acked(&source), source.outcomes().len());
    assert_eq!(ids(&destination.published("orders")), numbers(0..source.handed_out()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_destination_that_fails() {
    let source = source_of("down", 5);
    source.push(envelope("up", "5"));
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.settled(1).await;
    let begun = Instant::now();
    let report = running.stop().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((report.forwarded, report.returned), (1, 5));
    assert_eq!(acked(&source), 1);
    assert_eq!(source.outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_does_not_answer_holds_a_stop_up_for_a_bounded_time() {
    let source = source_of("orders", 5);
    let destination = RecordingPublisher::new();
    destination.hold();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    destination.await_calls(1).await;
    let begun = Instant::now();
    let report = running.stop().await;
    assert_eq!(
        begun.elapsed(),
        Duration::from_secs(4),
        "a fifth is left for the source to record everything"
    );
    assert_eq!((report.forwarded, report.returned), (0, 5));
    assert_eq!(acked(&source), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_publishing_and_acking_repeats_at_most_one_batch() {
    let source = source_of("orders", 100).redeliver(true);
    let destination = RecordingPublisher::new().with_latency(Duration::from_millis(10));
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config());
    for crash in 1..=5 {
        let running = start(forwarder.clone());
        // The destination has the batch, and its answer is still on its way.
        destination.await_calls(2 * crash).await;
        running.kill().await;
    }
    let running = start(forwarder);
    while acked(&source) < 100 {
        sleep(Duration::from_millis(1)).await;
    }
    running.stop().await;

    let published = ids(&destination.published("orders"));
    let mut seen: Vec<String> = Vec::new();
    for id in &published {
        if !seen.contains(id) {
            seen.push(id.clone());
        }
    }
    assert_eq!(seen, numbers(0..100), "nothing is lost, and first arrivals are in order");
    let duplicates = published.len() - seen.len();
    assert_eq!(duplicates, 5 * 10, "one batch for each crash");
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_and_not_recorded_counts_so_that_a_crash_repeats_no_more_than_two_batches() {
    let source = source_of("orders", 100).redeliver(true);
    source.hold_records();
    let destination = RecordingPublisher::new();
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config().batch_size(5));
    let running = start(forwarder.clone());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(destination.published("orders").len(), 10, "the source has recorded nothing yet");
    source.record(5);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(destination.published("orders").len(), 15);
    running.kill().await;

    let running = start(forwarder);
    while acked(&source) < 100 {
        source.record(1);
        sleep(Duration::from_millis(1)).await;
    }
    running.stop().await;
    assert_eq!(destination.published("orders").len(), 110);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_while_its_messages_get_another_owner_is_dropped() {
    let source = source_of("orders", 5);
    let destination = RecordingPublisher::new();
    destination.hold();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    destination.await_calls(1).await;
    source.revoke(0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(destination.in_flight(), 0, "a client may forget what it has not sent");
    assert_eq!(running.stop().await.forwarded, 0);
}

#[tokio::test(start_paused = true)]
async fn a_forwarder_that_lost_its_place_does_not_publish_what_its_successor_has() {
    // P38: in Go a relay that was paused past a take-over publishes the rest of its batch.
    let source = source_of("down", 10);
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    source.await_handed_out(10).await;
    sleep(Duration::from_millis(500)).await;
    source.revoke(0);
    destination.bring_up("down");
    sleep(Duration::from_secs(60)).await;
    let report = running.stop().await;
    assert_eq!((report.forwarded, report.returned), (0, 0));
    assert!(destination.published("down").is_empty());
    assert!(source.outcomes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_source_with_trouble_is_read_on_and_one_that_ends_is_an_error_with_a_report() {
    let source = source_of("orders", 3);
    source.fail(SubscribeError::new(SubscribeErrorKind::Unavailable, "forwarder_topic"));
    source.push(envelope("orders", "3"));
    source.fail(SubscribeError::new(SubscribeErrorKind::Refused, "forwarder_topic"));
    source.end();
    let destination = RecordingPublisher::new();
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    let error = running.end().await.unwrap_err();
    assert_eq!(error.kind(), ForwarderErrorKind::Ended);
    assert!(!error.is_retryable());
    assert_eq!(error.report().forwarded, 4);
    assert_eq!(ids(&destination.published("orders")), numbers(0..4));
}

#[tokio::test(start_paused = true)]
async fn a_closed_publisher_ends_the_forwarder_and_loses_nothing() {
    let source = source_of("orders", 3);
    let destination = RecordingPublisher::new();
    destination.close().await.unwrap();
    let running = start(Forwarder::builder(source.clone(), destination).config(config()));
    let error = running.end().await.unwrap_err();
    assert_eq!(error.kind(), ForwarderErrorKind::PublisherClosed);
    assert_eq!(error.report().returned, 3);
    assert_eq!(acked(&source), 0);
    assert_eq!(source.outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_subscribed_to_is_an_error_at_once() {
    let source = ScriptedSubscriber::new();
    source.fail_subscribe(1, SubscribeErrorKind::Unavailable);
    let running = start(Forwarder::builder(source, RecordingPublisher::new()).config(config()));
    let error = running.end().await.unwrap_err();
    assert_eq!(error.kind(), ForwarderErrorKind::Subscribe);
    assert!(error.is_retryable());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_before_anything_runs() {
    let builder = Forwarder::builder(ScriptedSubscriber::new(), RecordingPublisher::new());
    let error = builder.config(ForwarderConfig::default().batch_size(0).topic("")).build().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("batch_size is zero") && text.contains("topic is empty"), "{text}");
}

#[tokio::test]
async fn asked_to_stop_before_it_has_begun_it_does_nothing() {
    let source = source_of("orders", 3);
    let running = start(Forwarder::builder(source.clone(), RecordingPublisher::new()).config(config()));
    assert_eq!(running.stop().await, ForwarderReport::default());
    assert_eq!(source.subscribe_calls(), 0);
}
