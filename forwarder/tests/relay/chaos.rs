//! Faults on both sides of a forwarder, from seeds, and kills: nothing is lost, whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use watermill_core::{Backoff, Message, MessageId};
use watermill_forwarder::{Envelope, Forwarder, ForwarderConfig};
use watermill_testkit::{Faults, Faulty, RecordingPublisher, ScriptedSubscriber};

use super::support::start;

const MESSAGES: usize = 300;
const TOPICS: [&str; 3] = ["a", "b", "c"];

/// What goes wrong in one run.
struct Weather {
    publishing: Faults,
    reading: Faults,
    kills: bool,
}

/// More than enough of a time that costs nothing.
const ENOUGH: Duration = Duration::from_secs(60);

/// Forwards messages for three topics and seven keys through bad weather, and returns what arrived.
async fn forward(weather: Weather) -> Vec<(String, Message)> {
    timeout(ENOUGH, forward_all(weather)).await.expect("every message arrives and is acked")
}

async fn forward_all(weather: Weather) -> Vec<(String, Message)> {
    let script = ScriptedSubscriber::new().redeliver(true);
    for id in 0..MESSAGES {
        let message = Message::with_id(format!("{id:03}"), "x").with_key(format!("k{}", id % 7));
        script.push(Envelope::new(TOPICS[id % TOPICS.len()], message).wrap());
    }
    let record = RecordingPublisher::new().with_latency(Duration::from_millis(3));
    let destination = Faulty::new(record.clone(), weather.publishing);
    let source = Faulty::new(script.clone(), weather.reading);
    let config = ForwarderConfig::default()
        .batch_size(16)
        .backoff(Backoff::exponential(Duration::from_millis(5)).max(Duration::from_millis(50)))
        .attempts(None);
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config);

    if weather.kills {
        for life in 0..10 {
            let running = start(forwarder.clone());
            sleep(Duration::from_millis(7 * life)).await;
            running.kill().await;
        }
    }
    // Restarted when it cannot subscribe, as a process manager does.
    let mut running = start(forwarder.clone());
    while distinct(&record).len() < MESSAGES || script.outstanding() > 0 {
        sleep(Duration::from_millis(5)).await;
        if running.has_ended() {
            running = start(forwarder.clone());
        }
    }
    source.stop_injecting();
    destination.stop_injecting();
    assert_eq!(running.stop().await.dead_lettered, 0);
    record.all_published()
}

fn distinct(record: &RecordingPublisher) -> BTreeSet<MessageId> {
    record.all_published().into_iter().map(|(_, message)| message.id().clone()).collect()
}

/// The order in which the messages of each topic and key arrived, each the first time it did.
fn first_arrivals(published: &[(String, Message)]) -> BTreeMap<(String, String), Vec<String>> {
    let mut arrivals: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (topic, message) in published {
        let key = String::from_utf8(message.key().expect("all have keys").to_vec()).expect("text");
        let ids = arrivals.entry((topic.clone(), key)).or_default();
        if !ids.iter().any(|id| message.id() == id.as_str()) {
            ids.push(message.id().to_string());
        }
    }
    arrivals
}

#[tokio::test(start_paused = true)]
async fn failing_publishes_lost_acks_and_kills_lose_nothing_and_keep_the_order_of_each_key() {
    for seed in 0..20 {
        let publishing = Faults::seeded(seed)
            .fail_before_send(0.2)
            .fail_after_send(0.1)
            .delay(0.2, Duration::from_millis(20));
        let reading = Faults::seeded(seed).fail_subscribe(0.2).fail_stream(0.05).lose_settlements(0.1);
        let published = forward(Weather { publishing, reading, kills: seed % 2 == 0 }).await;
        let arrivals = first_arrivals(&published);
        assert_eq!(arrivals.len(), 3 * 7, "seed {seed}");
        assert_eq!(arrivals.values().map(Vec::len).sum::<usize>(), MESSAGES, "seed {seed}");
        for (lane, ids) in arrivals {
            assert!(ids.is_sorted(), "seed {seed}, {lane:?}: {ids:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_accepted_in_part_lose_nothing() {
    for seed in 0..20 {
        let publishing = Faults::seeded(seed).fail_partially(0.4).fail_before_send(0.1);
        let reading = Faults::seeded(seed);
        let published = forward(Weather { publishing, reading, kills: seed % 2 == 0 }).await;
        let arrived: BTreeSet<_> = published.iter().map(|(_, message)| message.id().clone()).collect();
        assert_eq!(arrived.len(), MESSAGES, "seed {seed}");
    }
}
