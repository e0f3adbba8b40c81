//! A stop ends in time, whatever it finds.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watermill_core::{Message, error::PublishErrorKind};
use watermill_forwarder::{Envelope, FencedForwarder, ForwarderConfig};
use watermill_testkit::{ScriptedDelivery, ScriptedSubscriber};

use crate::destination::{Destination, NAME, relay, source};

const ENOUGH: Duration = Duration::from_secs(600);

/// When a relay is asked to stop, and until when it has to have stopped.
const STOP: Duration = Duration::from_secs(60);

fn late() -> Duration {
    STOP + ForwarderConfig::default().drain_timeout + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_transaction_that_does_not_end_no_longer_than_it_may() {
    let (source, destination) = (source(&["a"], 30).await, Destination::default());
    destination.state().hangs_after = Some(1);
    let drain_timeout = ForwarderConfig::default().drain_timeout;
    let begun = Instant::now();
    let stop = Duration::from_secs(1);
    relay(&source, &destination, 10).run_until(sleep(stop)).await.expect("a graceful stop");
    assert!(begun.elapsed() < stop + drain_timeout * 2, "{:?}", begun.elapsed());
    assert_eq!(destination.published("a").len(), 10);

    destination.state().hangs_after = None;
    relay(&source, &destination, 10).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!(destination.published("a"), (0..30).map(|id| format!("{id:04}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_source_that_does_not_record_what_is_no_envelope() {
    let (source, destination) = (ScriptedSubscriber::new().dead_letters(true), Destination::default());
    source.hold_records();
    source.push(ScriptedDelivery::new(Message::new("no envelope")).offset(1));
    stops_in_time(&source, &destination).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_source_that_does_not_record_a_dead_letter() {
    let (source, destination) = (ScriptedSubscriber::new().dead_letters(true), Destination::default());
    source.hold_records();
    destination.state().refuses_all = Some(PublishErrorKind::Message);
    source.push(ScriptedDelivery::new(Envelope::new("a", Message::new("x")).wrap()).offset(1));
    stops_in_time(&source, &destination).await;
}

async fn stops_in_time(source: &ScriptedSubscriber, destination: &Destination) {
    let begun = Instant::now();
    let relay = FencedForwarder::builder(source.clone(), destination.clone(), NAME);
    let running = relay.build().expect("a good configuration").run_until(sleep(STOP));
    tokio::time::timeout(late(), running).await.expect("it stops in time").expect("a graceful stop");
    assert!(begun.elapsed() >= STOP);
    assert_eq!(source.outcomes().len(), 1, "what it was told it records with everything else");
}
