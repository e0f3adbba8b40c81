//! Where reading begins, with a group and without.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use watermill_core::Subscriber as _;
use watermill_kafka::StartPosition;
use watermill_testkit::unique;

use crate::support::{
    add_partitions, ask, config, members, messages, publish, quiet, subscriber, take, topic, within,
};

#[tokio::test]
async fn without_a_group_every_subscription_reads_everything_and_commits_nothing() {
    let topic = topic(3).await;
    publish(&topic, &messages(0..20, 20)).await;
    let subscriber = subscriber(config());
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
        assert_eq!(take(&mut subscription, 20).await.len(), 20);
        quiet(&mut subscription).await;
        both.push(subscription);
    }
    // There is nothing to record, and so nothing to wait for.
    publish(&topic, &messages(20..21, 1)).await;
    for mut subscription in both {
        let delivery = crate::support::next(&mut subscription).await;
        within("confirm", delivery.ack_confirmed()).await.expect("it is confirmed");
        subscription.close().await.expect("it closes");
    }
    let groups = ask(|consumer, timeout| {
        let groups = consumer.fetch_group_list(None, timeout).expect("groups");
        groups.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>()
    });
    assert!(!groups.await.iter().any(|group| group.starts_with("watermill-")), "a group was made");
}

#[tokio::test]
async fn without_a_group_partitions_that_are_added_are_found() {
    let topic = topic(1).await;
    let config = config().discovery_interval(Duration::from_millis(50)).start(StartPosition::Latest);
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
    add_partitions(&topic, 4).await;
    publish(&topic, &messages(0..40, 40)).await;
    assert_eq!(take(&mut subscription, 40).await.len(), 40, "from the beginning of each added partition");
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn the_latest_is_what_was_there_when_initialize_or_subscribe_was_called() {
    let topic = topic(3).await;
    for config in [config().group(unique("group")), config()] {
        publish(&topic, &messages(0..10, 10)).await;
        let subscriber = subscriber(config.start(StartPosition::Latest));
        subscriber.initialize(&topic).await.expect("the position is noted");
        publish(&topic, &messages(10..20, 10)).await;
        subscriber.initialize(&topic).await.expect("and noted once");
        let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
        let expected: Vec<_> = (10..20).map(|n| format!("{n:04}")).collect();
        assert_eq!(take(&mut subscription, 10).await, expected);
        quiet(&mut subscription).await;
        subscription.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn a_group_that_began_with_the_latest_misses_nothing_though_its_first_member_acked_nothing() {
    let (topic, group) = (topic(2).await, unique("group"));
    publish(&topic, &messages(0..10, 10)).await;
    let config = config().group(&group).start(StartPosition::Latest);
    let subscriber = subscriber(config);
    let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
    quiet(&mut subscription).await;
    within("the member joins", async {
        while members(&group).await == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    quiet(&mut subscription).await;
    subscription.close().await.expect("it closes");
    publish(&topic, &messages(10..20, 10)).await;
    let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 10).await[0], "0010");
    quiet(&mut subscription).await;
    subscription.close().await.expect("it closes");
}
