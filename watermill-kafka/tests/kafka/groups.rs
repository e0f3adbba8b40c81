//! Members of a group: who is one, how long it stays, and who takes over.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::StreamExt;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time;
use watermill_core::{Subscriber as _, subscription::Health};
use watermill_testkit::unique;

use crate::support::{
    brokers, config, members, messages, next, ordered, publish, quiet, subscriber, take, topic, within,
};

/// The least that a broker allows.
const SESSION_MS: u64 = 6_000;

#[tokio::test]
async fn the_subscriptions_of_one_subscriber_are_one_member_as_long_as_their_topics_differ() {
    let (orders, invoices, group) = (topic(2).await, topic(2).await, unique("group"));
    publish(&orders, &messages(0..10, 10)).await;
    publish(&invoices, &messages(10..20, 10)).await;
    let subscriber = subscriber(config().group(&group));
    let mut first = subscriber.subscribe(&orders).await.expect("it subscribes");
    let mut second = subscriber.subscribe(&invoices).await.expect("it subscribes");
    assert_eq!(take(&mut first, 10).await[0], "0000");
    assert_eq!(take(&mut second, 10).await[0], "0010");
    assert_eq!(members(&group).await, 1);

    // One leaves, and the other goes on.
    first.close().await.expect("it closes");
    publish(&invoices, &messages(20..30, 10)).await;
    assert_eq!(take(&mut second, 10).await[0], "0020");

    let mut third = subscriber.subscribe(&invoices).await.expect("it subscribes");
    publish(&invoices, &messages(30..130, 100)).await;
    within("the second member is given its part", next(&mut third)).await.ack();
    assert_eq!(members(&group).await, 2, "a second subscription to a topic is a member of its own");
    second.close().await.expect("it closes");
    subscriber.close().await.expect("it closes");
    assert_eq!(members(&group).await, 0);
}

#[tokio::test]
async fn a_handler_may_take_longer_than_the_poll_interval() {
    let topic = topic(1).await;
    publish(&topic, &messages(0..2, 1)).await;
    let config = config()
        .group(unique("group"))
        .option("session.timeout.ms", SESSION_MS.to_string())
        .option("max.poll.interval.ms", SESSION_MS.to_string());
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
    let delivery = next(&mut subscription).await;
    // The time that passes is what this is about.
    time::sleep(Duration::from_millis(SESSION_MS * 3 / 2)).await;
    assert!(!delivery.cancellation().is_cancelled(), "it was thrown out of the group");
    within("confirm", delivery.ack_confirmed()).await.expect("it is ours still");
    assert_eq!(next(&mut subscription).await.id(), "0001");
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn what_a_killed_member_had_is_taken_over() {
    const HELD: usize = 5;
    let (topic, group) = (topic(2).await, unique("group"));
    publish(&topic, &messages(0..200, 20)).await;
    let mut member = Member::start(&topic, &group);
    within("the member reads", async {
        while members(&group).await == 0 {
            time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    member.kill();

    // What it has acked is committed or not; what it held comes again, and everything after it.
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    subscription.set_window(ordered(HELD));
    publish(&topic, &messages(200..220, 20)).await;
    let mut seen = std::collections::BTreeSet::new();
    while !(200..220).all(|n| seen.contains(&format!("{n:04}"))) {
        let delivery = next(&mut subscription).await;
        seen.insert(delivery.id().to_string());
        delivery.ack();
    }
    // The member acks nothing, so everything is left.
    assert_eq!(seen.len(), 220);
    quiet(&mut subscription).await;
    subscription.close().await.expect("it closes");
}

const MEMBER_OF: &str = "WATERMILL_TEST_MEMBER_OF";

/// A member in a process of its own: this program, running the one test below.
struct Member(Child);

impl Member {
    fn start(topic: &str, group: &str) -> Self {
        let child = Command::new(env::current_exe().expect("this program has a path"))
            .args(["--exact", "groups::a_member_reads_and_holds_what_it_reads"])
            .env(MEMBER_OF, format!("{topic} {group}"))
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("the member starts"))
    }

    /// As a crash does: without a word to the group.
    fn kill(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it has ended");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// By itself it reads a topic of its own; as somebody's [`Member`] it goes on until it is killed.
#[tokio::test]
async fn a_member_reads_and_holds_what_it_reads() {
    let asked = env::var(MEMBER_OF).ok();
    let (topic, group) = match asked.as_deref().and_then(|asked| asked.split_once(' ')) {
        Some((topic, group)) => (topic.to_owned(), group.to_owned()),
        None => (topic(1).await, unique("group")),
    };
    if asked.is_none() {
        publish(&topic, &messages(0..2, 1)).await;
    }
    let config = config().group(group).option("session.timeout.ms", SESSION_MS.to_string());
    let mut subscription = subscriber(config).subscribe(&topic).await.expect("it subscribes");
    subscription.set_window(ordered(2));
    let mut held = vec![next(&mut subscription).await, next(&mut subscription).await];
    while asked.is_some() {
        held.push(subscription.next().await.expect("the stream goes on").expect("no error"));
    }
    assert_eq!(held.len(), 2);
}

#[tokio::test]
async fn a_group_whose_members_assign_by_range_is_joined_when_they_have_gone_and_health_says_why_not_before()
{
    let (topic, group) = (topic(1).await, unique("group"));
    publish(&topic, &messages(0..1, 1)).await;
    // As a member of Go's library.
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("group.id", &group)
        .set("partition.assignment.strategy", "range")
        .create()
        .expect("a client");
    other.subscribe(&[&topic]).expect("it subscribes");
    let polling = std::thread::spawn(move || {
        while other.assignment().expect("an answer").count() == 0 {
            other.poll(Duration::from_millis(20));
        }
        other
    });
    let other =
        tokio::task::spawn_blocking(move || polling.join().expect("it joins")).await.expect("it joins");
    let mut subscription = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    let error =
        within("it is told", subscription.next()).await.expect("it goes on").expect_err("it cannot join");
    assert!(error.is_retryable(), "{error}");
    let Health::Degraded { reason } = subscription.status().health else { panic!("it is not joined") };
    assert!(reason.contains("range"), "{reason}");
    // It says goodbye.
    tokio::task::spawn_blocking(move || drop(other)).await.expect("it leaves");
    let delivery = within("the delivery", async {
        loop {
            match subscription.next().await.expect("it goes on") {
                Ok(delivery) => break delivery,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    });
    delivery.await.ack();
    subscription.close().await.expect("it closes");

    // Beside such members the strategy is to be theirs.
    let ranged = config().group(&group).option("partition.assignment.strategy", "range");
    publish(&topic, &messages(1..2, 1)).await;
    let mut subscription = subscriber(ranged).subscribe(&topic).await.expect("it subscribes");
    assert_eq!(take(&mut subscription, 1).await, ["0001"]);
    subscription.close().await.expect("it closes");
}
