//! How far a subscription is behind.

use std::time::Duration;

use tokio::time;
use watermill_core::{Subscriber as _, error::SubscribeErrorKind};
use watermill_kafka::{GroupStatus, KafkaStatus, KafkaSubscriberConfig, StartPosition};
use watermill_testkit::unique;

use crate::support::{
    add_partitions, config, messages, partitions, publish, subscriber, take, topic, within,
};

/// How far a group has got, where those that have committed nothing begin as the configuration says.
pub(crate) async fn ask(config: KafkaSubscriberConfig, group: &str, topic: &str) -> GroupStatus {
    let status = KafkaStatus::new(config).expect("a valid config");
    within("an answer", status.group(group, topic)).await.expect("it is answered")
}

#[tokio::test]
async fn the_lag_of_each_partition_is_measured() {
    let topic = topic(2).await;
    publish(&topic, &messages(0..30, 30)).await;
    let config = config().group(unique("group")).lag_interval(Duration::from_millis(50));
    let subscriber = subscriber(config);
    let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
    for left in [20, 10, 0] {
        take(&mut subscription, 10).await;
        within("the lag is measured", async {
            loop {
                let lag = subscriber.lag();
                assert!(
                    lag.iter().all(|lag| lag.topic == topic && (0..2).contains(&lag.partition)),
                    "{lag:?}"
                );
                if lag.len() == 2 && lag.iter().map(|lag| lag.messages).sum::<u64>() == left {
                    break;
                }
                time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    subscription.close().await.expect("it closes");
    assert!(subscriber.lag().is_empty(), "nothing is read any more");
}

#[tokio::test]
async fn how_far_a_group_has_got_is_asked_without_being_one_of_its_members() {
    let (topic, group) = (topic(2).await, unique("group"));
    publish(&topic, &messages(0..30, 30)).await;
    let ask = async || ask(config(), &group, &topic).await;
    let nobody = ask().await;
    assert_eq!((nobody.lag(), nobody.members, nobody.partitions.len()), (30, 0, 2));
    assert!(nobody.partitions.iter().all(|partition| partition.position.is_none() && partition.oldest == 0));

    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    take(&mut subscription, 10).await;
    assert_eq!(ask().await.members, 1);
    subscription.close().await.expect("it closes");
    let left = ask().await;
    assert_eq!((left.group.as_str(), left.topic.as_str(), left.lag()), (&*group, &*topic, 20));
    let read: i64 = left.partitions.iter().filter_map(|partition| partition.position).sum();
    assert_eq!(read, 10);

    let status = KafkaStatus::new(config()).expect("a valid config");
    let missing =
        within("an answer", status.group(&group, &unique("missing"))).await.expect_err("no such topic");
    assert_eq!(missing.kind(), SubscribeErrorKind::Topic, "{missing}");
}

#[tokio::test]
async fn a_group_that_has_read_nothing_has_before_it_what_it_would_begin_with() {
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..30, 1)).await;
    let latest = || config().start(StartPosition::Latest);
    assert_eq!(ask(config(), &group, &topic).await.lag(), 30, "it would begin with the oldest");
    assert_eq!(ask(latest(), &group, &topic).await.lag(), 0, "it would begin with the next");

    let reader = subscriber(latest().group(&group));
    reader.initialize(&topic).await.expect("its beginning is noted");
    publish(&topic, &messages(30..35, 1)).await;
    for config in [config(), latest()] {
        assert_eq!(ask(config, &group, &topic).await.lag(), 5, "it has begun, and where is known");
    }
}

#[tokio::test]
async fn a_partition_that_was_added_counts_from_its_beginning_wherever_its_group_has_begun() {
    let (topic, group) = (topic(1).await, unique("group"));
    let latest = || config().start(StartPosition::Latest);
    subscriber(latest().group(&group)).initialize(&topic).await.expect("its beginning is noted");
    add_partitions(&topic, 2).await;
    within("the partition is there", async { while partitions(&topic).await != 2 {} }).await;
    publish(&topic, &messages(0..30, 30)).await;
    let status = ask(latest(), &group, &topic).await;
    let added = &status.partitions[1];
    assert_eq!((added.position, added.lag), (None, added.end.unsigned_abs()), "{status:?}");
    assert!(added.lag > 0, "some keys are in it");
    assert_eq!(status.lag(), 30);
}
