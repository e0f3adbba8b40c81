//! How far a subscription is behind.

use std::time::Duration;

use tokio::time;
use watermill_core::{Subscriber as _, error::SubscribeErrorKind};
use watermill_kafka::KafkaStatus;
use watermill_testkit::unique;

use crate::support::{config, messages, publish, subscriber, take, topic, within};

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
    let status = KafkaStatus::new(config()).expect("a valid config");
    let ask = async || within("an answer", status.group(&group, &topic)).await.expect("it is answered");
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

    let missing =
        within("an answer", status.group(&group, &unique("missing"))).await.expect_err("no such topic");
    assert_eq!(missing.kind(), SubscribeErrorKind::Topic, "{missing}");
}
