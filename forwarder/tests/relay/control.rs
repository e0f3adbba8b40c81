//! What can be seen and asked of a forwarder that runs.

use std::time::Duration;

use tokio::time::sleep;
use watermill_core::{
    error::{PublishErrorKind, SubscribeErrorKind},
    router::Phase,
    subscription::Health,
};
use watermill_forwarder::{Forwarder, ForwarderStatus};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use super::support::{ByTopic, Picky, config, envelope, keyed, source_of};

/// Longer than it takes to say how it is doing.
const SAID: Duration = ForwarderStatus::INTERVAL.saturating_add(Duration::from_millis(50));

#[tokio::test(start_paused = true)]
async fn the_status_tells_what_is_done_and_what_waits_and_what_for() {
    let source = source_of("up", 3);
    for id in 3..8 {
        source.push(keyed("down", "k", &id.to_string()));
    }
    let destination = Picky::new();
    destination.take_down("down", PublishErrorKind::Unavailable);
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config()).build().unwrap();
    let control = forwarder.control();
    assert_eq!(control.phase(), Phase::Starting);
    let running = tokio::spawn(forwarder.run_until(std::future::pending()));
    control.reached(Phase::Running).await;
    sleep(Duration::from_secs(10) + SAID).await;

    let status = control.status();
    assert_eq!((status.counts.forwarded, status.in_hand, status.unrecorded), (3, 5, 0));
    assert_eq!(status.source.health, Health::Healthy);
    let [held] = &status.held[..] else { panic!("{:?}", status.held) };
    assert_eq!((held.destination.as_deref(), held.messages, held.attempts), (Some("down"), 5, 11));
    assert!(held.error.contains("unavailable") && !held.paused, "{held:?}");
    assert!(held.since >= Duration::from_secs(10), "{held:?}");

    destination.bring_up("down");
    source.settled(8).await;
    sleep(SAID).await;
    let status = control.status();
    assert_eq!((status.counts.forwarded, status.held.len()), (8, 0));
    control.stop();
    assert_eq!(running.await.unwrap().unwrap().forwarded, 8);
    assert_eq!(control.phase(), Phase::Ended);
    assert_eq!(control.status().source.health, Health::Ended);
    assert_eq!(control.status().counts.forwarded, 8);
}

#[tokio::test(start_paused = true)]
async fn a_paused_destination_waits_and_so_does_a_paused_key_and_others_go_on() {
    let source = ScriptedSubscriber::new();
    let destination = RecordingPublisher::new();
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config()).build().unwrap();
    let control = forwarder.control();
    control.pause("bills", None);
    control.pause("orders", Some("b".into()));
    let running = tokio::spawn(forwarder.run_until(std::future::pending()));
    for id in 0..30 {
        source.push(match id % 3 {
            0 => envelope("bills", &id.to_string()),
            1 => keyed("orders", "a", &id.to_string()),
            _ => keyed("orders", "b", &id.to_string()),
        });
    }
    source.settled(10).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(source.outcomes().len(), 10);
    assert_eq!(control.paused().len(), 2);
    let held = control.status().held;
    let held: Vec<_> = held.iter().map(|held| (held.messages, held.paused, held.key.is_some())).collect();
    assert_eq!(held, [(10, true, false), (10, true, true)]);

    assert!(control.resume("orders", Some("b".into())));
    source.settled(20).await;
    assert!(!control.resume("orders", None), "it was not paused");
    assert!(control.resume("bills", None));
    source.settled(30).await;
    for topic in ["orders", "bills"] {
        let published = destination.published(topic);
        for key in [None, Some("a"), Some("b")] {
            let key = key.map(str::as_bytes);
            let of_key = published.iter().filter(|message| message.key().map(|key| &key[..]) == key);
            let ids: Vec<usize> = of_key.map(|message| message.id().as_str().parse().unwrap()).collect();
            assert!(ids.is_sorted(), "{topic}: {ids:?}");
        }
    }
    control.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_at_the_start_is_waited_for_where_that_is_asked_for_and_the_reason_is_told() {
    let source = source_of("orders", 3);
    source.fail_subscribe(20, SubscribeErrorKind::Unavailable);
    let forwarder = Forwarder::builder(source.clone(), RecordingPublisher::new())
        .config(config().await_source(true))
        .build()
        .unwrap();
    let control = forwarder.control();
    let running = tokio::spawn(forwarder.run_until(std::future::pending()));
    sleep(Duration::from_millis(10_500)).await;
    assert_eq!(control.phase(), Phase::Starting);
    let Health::Degraded { reason } = control.status().source.health else { panic!("it is not there") };
    assert!(reason.contains("the script says so"), "{reason}");
    source.settled(3).await;
    assert_eq!(source.subscribe_calls(), 21);
    control.stop();
    running.await.unwrap().unwrap();

    let refused = source_of("orders", 1);
    refused.fail_subscribe(1, SubscribeErrorKind::Refused);
    let forwarder =
        Forwarder::builder(refused, RecordingPublisher::new()).config(config().await_source(true));
    forwarder.build().unwrap().run_until(std::future::pending()).await.expect_err("waiting does not help");
}

#[tokio::test(start_paused = true)]
async fn a_destination_without_an_answer_is_seen_and_others_go_on_and_it_is_tried_again_after_its_time() {
    let source = ScriptedSubscriber::new();
    let (destination, hanging) = (Picky::new(), Picky::new());
    hanging.record.hold();
    for id in 0..200 {
        source.push(envelope(if id % 2 == 0 { "hangs" } else { "works" }, &id.to_string()));
    }
    let both = ByTopic::new("hangs", hanging.clone(), destination.clone());
    let config = config().call_timeout(Duration::from_secs(20)).attempts(2);
    let forwarder = Forwarder::builder(source.clone(), both).config(config).build().unwrap();
    let control = forwarder.control();
    let running = tokio::spawn(forwarder.run_until(std::future::pending()));
    source.settled(100).await;
    assert_eq!(destination.published("works").len(), 100);
    sleep(SAID).await;
    let held = control.status().held;
    assert_eq!((held[0].destination.as_deref(), held[0].messages), (Some("hangs"), 100));
    assert!(held[0].error.contains("no answer"), "{held:?}");

    sleep(Duration::from_secs(100)).await;
    assert!((4..=6).contains(&hanging.calls()), "{} calls", hanging.calls());
    hanging.record.release();
    source.settled(200).await;
    control.stop();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.forwarded, report.dead_lettered), (200, 0));
}
