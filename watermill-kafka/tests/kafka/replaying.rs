//! A part of each partition once more, beside the groups that read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use rdkafka::consumer::Consumer as _;
use watermill_core::{Message, Subscriber as _, components::Replay, error::SubscribeErrorKind};
use watermill_kafka::KafkaStatus;
use watermill_testkit::unique;

use crate::support::{ask, config, messages, publish, subscriber, take, topic, within};

fn replay() -> Replay<KafkaStatus> {
    Replay::new(KafkaStatus::new(config()).expect("a valid config"))
}

/// The ids of what is replayed, sorted, until all of it is.
async fn replayed(replay: Replay<KafkaStatus>, topic: &str) -> Vec<String> {
    let subscription = replay.subscribe(topic).await.expect("it subscribes");
    let mut deliveries = subscription.take_until(Box::pin(replay.done()));
    let mut ids = Vec::new();
    while let Some(delivery) = within("the next of the replay", deliveries.next()).await {
        let delivery = delivery.expect("the stream has no error");
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    ids.sort();
    ids
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

#[tokio::test]
async fn a_range_of_offsets_is_replayed_and_no_group_is_made_or_moves() {
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..1_500, 1)).await;
    let shop = subscriber(config().group(&group));
    let mut subscription = shop.subscribe(&topic).await.expect("it subscribes");
    take(&mut subscription, 3).await;
    subscription.close().await.expect("it closes");

    assert_eq!(replayed(replay().from_offset(2).until_offset(5), &topic).await, ids(2..5));
    assert_eq!(replayed(replay(), &topic).await, ids(0..1_500), "more than one look at the log");
    assert_eq!(replayed(replay().from_offset(1_500), &topic).await, [""; 0]);

    let status =
        KafkaStatus::new(config()).expect("a valid config").group(&group, &topic).await.expect("status");
    assert_eq!(status.partitions[0].position, Some(3), "as far as it was read");
    let groups = ask(|consumer, timeout| {
        let groups = consumer.fetch_group_list(None, timeout).expect("groups");
        groups.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>()
    });
    assert!(!groups.await.iter().any(|group| group.starts_with("watermill-")), "a group was made");
}

#[tokio::test]
async fn every_partition_is_replayed_in_its_range_of_times() {
    let topic = topic(3).await;
    // Kafka's times are in whole milliseconds.
    let mut before = SystemTime::now();
    let mut times = Vec::new();
    for round in 0..3 {
        publish(&topic, &messages(round * 20..(round + 1) * 20, 20)).await;
        let published = SystemTime::now();
        while millis(SystemTime::now()) <= millis(published) {
            tokio::task::yield_now().await;
        }
        times.push((before, SystemTime::now()));
        before = SystemTime::now();
    }
    let (from, until) = times[1];
    assert_eq!(replayed(replay().from_time(from).until_time(until), &topic).await, ids(20..40));
    assert_eq!(replayed(replay().until_time(from), &topic).await, ids(0..20));
    assert_eq!(replayed(replay().from_time(until), &topic).await, ids(40..60));
    let later = SystemTime::now() + Duration::from_secs(3600);
    assert_eq!(replayed(replay().from_time(later), &topic).await, [""; 0]);
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[tokio::test]
async fn what_comes_later_is_not_in_it_and_a_missing_topic_is_refused() {
    let topic = topic(1).await;
    publish(&topic, &messages(0..2, 1)).await;
    let replay_of_two = replay();
    let mut subscription = replay_of_two.subscribe(&topic).await.expect("it subscribes");
    publish(&topic, &[Message::with_id("later", "x")]).await;
    assert_eq!(take(&mut subscription, 2).await, ids(0..2));
    within("it is done", replay_of_two.done()).await;
    subscription.close().await.expect("it closes");
    let missing = replay().subscribe(&unique("missing")).await.unwrap_err();
    assert_eq!(missing.kind(), SubscribeErrorKind::Topic);
}
