//! From the outbox to the destination, whatever happens to the process.

use std::collections::BTreeSet;

use crate::support::{Place, SQLITE, wait_until};

fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| format!("order {number}"))
}

async fn payloads(place: &Place) -> Vec<String> {
    let arrived = place.arrived("orders").await;
    arrived.iter().map(|row| String::from_utf8(row.message.payload().to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn what_was_committed_arrives_in_order_and_once() {
    let place = Place::with(SQLITE).await;
    place.publish("orders", numbered(0..1_500)).await;
    let daemon = place.start();
    place.await_arrived("orders", 1_500).await;
    place.publish("orders", numbered(1_500..1_600)).await;
    place.await_arrived("orders", 1_600).await;

    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\"forwarded\":1600")), "{lines:#?}");

    let daemon = place.start();
    daemon.logged("the relay starts").await;
    place.publish("orders", ["last".to_owned()]).await;
    place.await_arrived("orders", 1_601).await;
    daemon.stop().await;
    let expected: Vec<String> = numbered(0..1_600).chain(["last".to_owned()]).collect();
    assert_eq!(payloads(&place).await, expected);
}

#[tokio::test]
async fn nothing_is_lost_or_out_of_order_when_the_process_is_killed() {
    let place = Place::with(SQLITE).await;
    place.publish("orders", numbered(0..3_000)).await;
    for kill in 1..=3 {
        let daemon = place.start_with(&["--set", "relay.shop.batch_size=50"], &[]);
        place.await_arrived("orders", kill * 400).await;
        daemon.kill().await;
    }
    let daemon = place.start();
    place.publish("orders", ["last".to_owned()]).await;
    wait_until("the last one to arrive", async || {
        payloads(&place).await.last().is_some_and(|last| last == "last")
    })
    .await;
    daemon.stop().await;

    let arrived = payloads(&place).await;
    let mut seen = BTreeSet::new();
    let first_times: Vec<&String> = arrived.iter().filter(|payload| seen.insert(*payload)).collect();
    let expected: Vec<String> = numbered(0..3_000).chain(["last".to_owned()]).collect();
    assert_eq!(first_times, expected.iter().collect::<Vec<_>>());
    let duplicates = arrived.len() - first_times.len();
    assert!(
        duplicates <= 3 * 100,
        "{duplicates} duplicates after three kills, promised are two batches of 50 each"
    );
}

#[tokio::test]
async fn several_relays_run_side_by_side_and_one_that_waits_keeps_none_back() {
    let second = r#"
[relay.away.source]
url = "sqlite:nowhere/outbox.db"
[relay.away.destination]
url = "sqlite:events.db"
"#;
    let place = Place::with(&format!("{SQLITE}{second}")).await;
    place.publish("orders", numbered(0..10)).await;
    let daemon = place.start();
    place.await_arrived("orders", 10).await;
    daemon.logged("the source is not there yet").await;

    let (status, text) = daemon.get("/health/ready").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("away: not subscribed yet"), "{text}");
    assert!(!text.contains("shop"), "{text}");
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}

#[tokio::test]
async fn a_second_process_stands_by_and_takes_over() {
    let place = Place::with(SQLITE).await;
    let first = place.start();
    place.publish("orders", numbered(0..10)).await;
    place.await_arrived("orders", 10).await;
    let second = place.start();
    second.logged("the relay starts").await;
    first.kill().await;
    place.publish("orders", numbered(10..20)).await;
    place.await_arrived("orders", 20).await;
    let (status, lines) = second.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}
