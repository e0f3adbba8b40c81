//! What cannot be published, and who may not publish any more.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;
use watermill_core::{Message, Publisher as _, fenced::FencedPublisher as _};
use watermill_forwarder::{FencedForwarder, ForwarderConfig, ForwarderErrorKind};

use crate::destination::{COMMIT, Destination, NAME, relay, source};

const ENOUGH: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_for_good_is_dead_lettered_and_the_others_are_published() {
    let (source, destination) = (source(&["a"], 50).await, Destination::default());
    destination.state().bad.insert("0017".to_owned());
    let report = relay(&source, &destination, 20).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!((report.forwarded, report.dead_lettered), (49, 1));
    let expected: Vec<String> = (0..50).filter(|id| *id != 17).map(|id| format!("{id:04}")).collect();
    assert_eq!(destination.published("a"), expected);
    assert_eq!(destination.published("dead").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_missing_dead_letters_its_own_messages_only() {
    let (source, destination) = (source(&["a", "missing"], 40).await, Destination::default());
    destination.state().missing.insert("missing".to_owned());
    let report = relay(&source, &destination, 40).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!((report.forwarded, report.dead_lettered), (20, 20));
    assert_eq!(destination.published("a").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_envelope_is_dead_lettered_in_its_place() {
    let (source, destination) = (source(&["a"], 3).await, Destination::default());
    source.publisher().publish("outbox", vec![Message::with_id("odd", "x")]).await.expect("it is accepted");
    let report = relay(&source, &destination, 10).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!((report.forwarded, report.dead_lettered), (3, 1));
    assert_eq!(destination.published("dead"), ["odd"]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_was_succeeded_ends_and_publishes_nothing_more() {
    let (source, destination) = (source(&["a"], 100).await, Destination::default());
    let running = tokio::spawn(relay(&source, &destination, 10).run_until(pending()));
    while destination.published("a").is_empty() {
        sleep(COMMIT / 3).await;
    }
    destination.begin(NAME).await.expect("a successor begins");
    let published = destination.published("a").len();
    let error = running.await.expect("no panic").expect_err("it was succeeded");
    assert_eq!(error.kind(), ForwarderErrorKind::Fenced);
    assert!(error.is_retryable(), "it may stand by");
    assert_eq!(destination.published("a").len(), published);

    let report = relay(&source, &destination, 10).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert!(report.forwarded > 0);
    assert_eq!(destination.published("a"), (0..100).map(|id| format!("{id:04}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_checkpoint_is_not_a_relays_is_left_alone() {
    let (source, destination) = (source(&["a"], 1).await, Destination::default());
    destination.state().checkpoint = Some(Bytes::from_static(b"of another program"));
    let error = relay(&source, &destination, 10).run_until(pending()).await.expect_err("it is not ours");
    assert_eq!(error.kind(), ForwarderErrorKind::Unsuitable);
    assert!(destination.published("a").is_empty());
}

#[tokio::test]
async fn a_relay_without_a_name_is_refused_with_everything_else_that_is_wrong() {
    let source = source(&["a"], 0).await;
    let relay = FencedForwarder::builder(source.subscriber(), Destination::default(), "");
    let error = relay.config(ForwarderConfig::default().batch_size(0)).build().expect_err("it has no name");
    let problems: Vec<&str> = error.problems().collect();
    assert_eq!(problems.len(), 2, "{error}");
    assert!(problems[0].starts_with("batch_size is zero") && problems[1].starts_with("name is empty"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_transaction_that_does_not_end_no_longer_than_it_may() {
    let (source, destination) = (source(&["a"], 30).await, Destination::default());
    destination.state().hangs_after = Some(1);
    let drain_timeout = ForwarderConfig::default().drain_timeout;
    let begun = tokio::time::Instant::now();
    let stop = Duration::from_secs(1);
    relay(&source, &destination, 10).run_until(sleep(stop)).await.expect("a graceful stop");
    assert!(begun.elapsed() < stop + drain_timeout * 2, "{:?}", begun.elapsed());
    assert_eq!(destination.published("a").len(), 10);

    destination.state().hangs_after = None;
    relay(&source, &destination, 10).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!(destination.published("a"), (0..30).map(|id| format!("{id:04}")).collect::<Vec<_>>());
}
