//! What every test begins with.

use std::{future::Future, time::Duration};

use futures::StreamExt;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time;
use watermill_core::{Delivery, Message, Publisher, Subscriber as _, Subscription, Window};
use watermill_kafka::{
    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{Service, patience, unique};

/// For answers that come at once or not at all.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) fn brokers() -> String {
    Service::KAFKA.url()
}

/// Members of a group see each other come and go soon, and topics come into being.
pub(crate) fn config() -> KafkaSubscriberConfig {
    KafkaSubscriberConfig::new(brokers())
        .create_topics(CreateTopics::new(3, 1))
        .option("heartbeat.interval.ms", "100")
}

pub(crate) fn subscriber(config: KafkaSubscriberConfig) -> KafkaSubscriber {
    KafkaSubscriber::new(config).expect("a valid config")
}

/// A topic of so many partitions.
pub(crate) async fn topic(partitions: i32) -> String {
    let topic = unique("topic");
    let maker = subscriber(config().create_topics(CreateTopics::new(partitions, 1)));
    maker.initialize(&topic).await.expect("the topic is made");
    topic
}

/// Messages with the ids `0000` and so on, over as many keys.
pub(crate) fn messages(range: std::ops::Range<usize>, keys: usize) -> Vec<Message> {
    range
        .map(|n| Message::with_id(format!("{n:04}"), n.to_string()).with_key((n % keys).to_string()))
        .collect()
}

pub(crate) async fn publish(topic: &str, messages: &[Message]) {
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(brokers())).expect("a valid config");
    publisher.publish(topic, messages.to_vec()).await.expect("the messages are accepted");
    publisher.close().await.expect("it closes");
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    time::timeout(patience(), future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The next delivery.
pub(crate) async fn next(subscription: &mut Subscription) -> Delivery {
    let next = within("the next delivery", subscription.next()).await;
    next.expect("the stream goes on").expect("the stream has no error")
}

/// Acks `count` deliveries and returns their ids, sorted.
pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    ids.sort();
    ids
}

/// Asserts that nothing comes for a while.
pub(crate) async fn quiet(subscription: &mut Subscription) {
    if let Ok(next) = time::timeout(Duration::from_millis(300), subscription.next()).await {
        panic!("nothing should come, but this did: {next:?}");
    }
}

pub(crate) fn ordered(size: usize) -> Window {
    Window::ordered(size.try_into().expect("a window is not empty"))
}

/// How many partitions a topic has, and how many members a group, asked of the broker itself.
pub(crate) async fn ask<R: Send + 'static>(
    question: impl FnOnce(&BaseConsumer, Duration) -> R + Send + 'static,
) -> R {
    let asking = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
        question(&consumer, ANSWER)
    });
    asking.await.expect("the broker answers")
}

pub(crate) async fn partitions(topic: &str) -> usize {
    let topic = topic.to_owned();
    ask(move |consumer, timeout| {
        let metadata = consumer.fetch_metadata(Some(&topic), timeout).expect("metadata");
        metadata.topics()[0].partitions().len()
    })
    .await
}

pub(crate) async fn members(group: &str) -> usize {
    let group = group.to_owned();
    ask(move |consumer, timeout| {
        let groups = consumer.fetch_group_list(Some(&group), timeout).expect("groups");
        groups.groups().iter().map(|group| group.members().len()).sum()
    })
    .await
}

pub(crate) async fn add_partitions(topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let results =
        admin.create_partitions(&[NewPartitions::new(topic, partitions)], &AdminOptions::new()).await;
    results.expect("the broker answers").into_iter().for_each(|result| {
        result.expect("the partitions are added");
    });
}
