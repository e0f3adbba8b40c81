//! What was taken by another owner of its scope: whoever has it now publishes it.

use watermill_core::error::PublishErrorKind;
use watermill_forwarder::{Envelope, Forwarder};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use super::support::{config, envelope, ids, start};

/// An envelope of a scope of the source.
fn of_scope(scope: u64, id: usize) -> ScriptedDelivery {
    ScriptedDelivery::new(envelope("orders", &id.to_string())).scope(scope)
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_call_and_is_lost_is_not_relayed_and_other_scopes_are() {
    let source = ScriptedSubscriber::new();
    let destination = RecordingPublisher::new();
    destination.hold();
    source.push(of_scope(0, 0));
    let running = start(Forwarder::builder(source.clone(), destination.clone()).config(config()));
    destination.await_calls(1).await;
    for id in 1..7 {
        source.push(of_scope(id as u64 % 2, id));
    }
    source.await_handed_out(7).await;
    source.revoke(0);
    destination.release();
    let report = running.stop().await;

    assert_eq!(ids(&destination.published("orders")), ["0", "1", "3", "5"], "0 was on its way");
    assert_eq!((report.forwarded, report.returned), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_while_its_destination_refuses_it_is_not_dead_lettered() {
    let source = ScriptedSubscriber::new();
    let (destination, dead_letters) = (RecordingPublisher::new(), RecordingPublisher::new());
    destination.hold();
    // All together, each half, and each of them alone.
    destination.fail_next(7, PublishErrorKind::Message);
    for id in 0..4 {
        source.push(of_scope(id as u64 % 2, id));
    }
    let forwarder =
        Forwarder::builder(source.clone(), destination.clone()).dead_letters(dead_letters.clone());
    let running = start(forwarder.config(config().attempts(1).dead_letter_topic("dead")));
    destination.await_calls(1).await;
    source.revoke(0);
    destination.release();
    let report = running.stop().await;

    let given_up = dead_letters.published("dead");
    let inner: Vec<_> =
        given_up.iter().map(|letter| Envelope::unwrap(letter).unwrap().message().clone()).collect();
    assert_eq!(ids(&inner), ["1", "3"]);
    assert_eq!((report.dead_lettered, report.returned), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_source_is_asked_for_what_may_be_in_hand_over_all_scopes() {
    let source = ScriptedSubscriber::new();
    let destination = RecordingPublisher::new();
    destination.hold();
    for id in 0..100 {
        source.push(of_scope(id as u64 % 10, id));
    }
    let running =
        start(Forwarder::builder(source.clone(), destination.clone()).config(config().max_blocked(5)));
    destination.await_calls(1).await;
    source.await_handed_out(20).await;
    destination.release();
    source.settled(100).await;
    let window = source.windows()[0];
    assert_eq!(window.total(), 25, "two batches of 10, and what may be blocked");
    assert!(source.outstanding_max() <= 20, "nothing is blocked, so two batches are in hand at most");
    running.stop().await;
}
