//! Positions that are not in the log any more: retention has passed them, or the log is shorter than they say.

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use watermill_core::Subscriber as _;
use watermill_kafka::StartPosition;
use watermill_testkit::unique;

use crate::{
    lag::ask,
    remade::remake,
    support::{brokers, config, messages, next, ordered, publish, quiet, subscriber, take, topic, within},
};

fn place(topic: &str, offset: i64) -> TopicPartitionList {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("an offset");
    place
}

/// Deletes the records before an offset, as retention does in its time.
async fn truncate(topic: &str, before: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let deleted = admin.delete_records(&place(topic, before), &AdminOptions::new());
    let deleted = within("records are deleted", deleted).await.expect("the broker answers");
    deleted.elements().iter().try_for_each(|element| element.error()).expect("they are deleted");
}

/// Commits a position of a group that has no members, as somebody else might.
async fn commit(group: &str, topic: &str, offset: i64) {
    let (group, place) = (group.to_owned(), place(topic, offset));
    let committing = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers())
            .set("group.id", group)
            .create()
            .expect("a client");
        consumer.commit(&place, CommitMode::Sync).expect("it is committed");
    });
    within("a commit", committing).await.expect("no panic");
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{n:04}")).collect()
}

#[tokio::test]
async fn a_group_that_retention_has_overtaken_goes_on_with_the_oldest_record_there_is() {
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..50, 1)).await;
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    subscription.set_window(ordered(1));
    take(&mut subscription, 10).await;
    subscription.close().await.expect("it closes");

    truncate(&topic, 30).await;
    for start in [StartPosition::Earliest, StartPosition::Latest] {
        let status = ask(config().start(start), &group, &topic).await;
        let log = &status.partitions[0];
        assert_eq!((log.oldest, log.end, log.position, log.lag), (30, 50, Some(10), 20), "{start:?}");

        let config = config().group(&group).start(start);
        let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
        subscription.set_window(ordered(1));
        let first = next(&mut subscription).await;
        assert_eq!((first.id().as_str(), first.info().offset()), ("0030", Some(30)), "{start:?}");
        // Nothing is acked, so that the next one begins at the same place.
        first.nack();
        subscription.close().await.expect("it closes");
    }
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 20).await, ids(30..50));
    quiet(&mut subscription).await;
    subscription.close().await.expect("it closes");
    assert_eq!(ask(config(), &group, &topic).await.lag(), 0);
}

#[tokio::test]
async fn a_reader_whose_log_is_emptied_before_it_goes_on_with_what_comes() {
    for group in [None, Some(unique("group"))] {
        let topic = topic(1).await;
        publish(&topic, &messages(0..50, 1)).await;
        let config = group.iter().fold(config(), |config, group| config.group(group));
        let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
        subscription.set_window(ordered(1));
        assert_eq!(take(&mut subscription, 10).await, ids(0..10));
        truncate(&topic, 50).await;
        publish(&topic, &messages(50..55, 1)).await;
        let mut read = Vec::new();
        // What it had fetched before comes, too.
        while read.last().is_none_or(|last| last != "0054") {
            read.extend(take(&mut subscription, 1).await);
        }
        assert!(read.is_sorted(), "{read:?}");
        assert_eq!(read[read.len() - 5..], ids(50..55));
        subscription.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn a_position_beyond_the_end_of_the_log_is_none_and_everything_is_read() {
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..20, 1)).await;
    commit(&group, &topic, 50).await;
    for start in [StartPosition::Earliest, StartPosition::Latest] {
        let status = ask(config().start(start), &group, &topic).await;
        let log = &status.partitions[0];
        assert_eq!((log.end, log.position, log.lag), (20, Some(50), 20), "{start:?}");
    }
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 20).await, ids(0..20));
    subscription.close().await.expect("it closes");
    let status = ask(config(), &group, &topic).await;
    assert_eq!((status.partitions[0].position, status.lag()), (Some(20), 0), "its place is in the log again");
}

#[tokio::test]
async fn a_remade_topic_that_has_more_records_already_is_not_told_from_the_old_one() {
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..50, 1)).await;
    remake(&topic).await;
    publish(&topic, &messages(100..170, 1)).await;
    // The group has not heard of it: what a member commits now is of the old topic.
    commit(&group, &topic, 50).await;
    assert_eq!(ask(config(), &group, &topic).await.lag(), 20, "offsets are all that there is to tell by");
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 20).await, ids(150..170), "as the README says");
    subscription.close().await.expect("it closes");
}
