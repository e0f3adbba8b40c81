//! What is made of a delivery, and its ack, in one transaction.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use watermill_core::{
    Backoff, Delivery, FailurePolicy, Handler, Message, Publisher as _, PublisherExt as _, Router,
    Subscriber as _, Subscription,
    error::{BoxError, PublishErrorKind},
};
use watermill_kafka::{
    CreateTopics, KafkaExactlyOncePublisher, KafkaPublisher, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{patience, unique};

use crate::support::{brokers, config, messages, texts, topic};

/// A subscriber and its publisher.
fn pair(group: &str) -> (Arc<KafkaSubscriber>, KafkaExactlyOncePublisher) {
    let subscriber = KafkaSubscriber::new(reading(group)).expect("a valid config");
    let publisher = KafkaExactlyOncePublisher::new(config(), unique("id"), &subscriber)
        .expect("a subscriber with a group");
    (Arc::new(subscriber), publisher)
}

fn reading(group: &str) -> KafkaSubscriberConfig {
    KafkaSubscriberConfig::new(brokers())
        .group(group)
        .option("heartbeat.interval.ms", "100")
        .option("session.timeout.ms", "6000")
}

/// A topic of several partitions.
async fn wide_topic(partitions: i32) -> String {
    let topic = unique("wide");
    let maker = reading("maker").create_topics(CreateTopics::new(partitions, 1));
    let maker = KafkaSubscriber::new(maker).expect("a valid config");
    maker.initialize(&topic).await.expect("the topic is made");
    topic
}

/// Puts numbers into a topic, over so many keys.
async fn put(topic: &str, numbers: std::ops::Range<usize>, keys: usize) {
    let publisher = KafkaPublisher::new(config()).expect("a valid config");
    let message = |number: usize| Message::new(number.to_string()).with_key((number % keys).to_string());
    publisher.publish(topic, numbers.map(message).collect()).await.expect("they are accepted");
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(patience(), future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = within("the next delivery", subscription.next()).await;
    next.expect("the stream goes on").expect("the stream has no error")
}

/// What a reader of committed records sees, once there is as much.
async fn once_there(topic: &str, count: usize) -> Vec<String> {
    within("the outputs are committed", async {
        loop {
            let name = topic.to_owned();
            let texts = tokio::task::spawn_blocking(move || texts(&name)).await.expect("no panic");
            if texts.len() >= count {
                return texts;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

fn sorted(texts: Vec<String>) -> Vec<usize> {
    let mut numbers: Vec<usize> = texts.iter().map(|text| text.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

/// A member of the group that turns each message into one of the same text.
struct Worker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Every so manieth message fails when it comes.
    fn start(group: &str, input: &str, output: &str, fails: usize) -> Self {
        let (subscriber, publisher) = pair(group);
        let handled = AtomicUsize::new(0);
        let copy = Arc::new(move |message: Message| {
            let number = handled.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::time::sleep(Duration::from_millis(1 + number as u64 % 3)).await;
                if number.is_multiple_of(fails) {
                    return Err(BoxError::from("it fails now and then"));
                }
                Ok(Message::new(message.payload().clone()))
            }
        });
        let handler = Handler::new("copy", move |message: Message| copy(message))
            .from(subscriber, input)
            .to(publisher, output)
            .ordered_by_key(4)
            .on_failure(FailurePolicy::nack().nack_backoff(Backoff::constant(Duration::from_millis(1))));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            Router::new().add(handler).run_until(stopped).await.expect("it runs");
        });
        Self { stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        within("a worker stops", self.task).await.expect("no panic");
    }

    /// As when its runtime ends: it says nothing.
    fn abort(self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_has_its_output_once_while_members_come_and_go_and_handlers_fail() {
    const MESSAGES: usize = 6_000;
    let (input, output) = (wide_topic(6).await, topic(&[]).await);
    let group = unique("group");
    put(&input, 0..MESSAGES, 30).await;
    let mut workers = vec![Worker::start(&group, &input, &output, 997)];
    for round in 0..4 {
        once_there(&output, MESSAGES * (round + 1) / 6).await;
        workers.push(Worker::start(&group, &input, &output, 997));
        once_there(&output, MESSAGES * (2 * round + 3) / 12).await;
        match round {
            0 | 2 => workers.remove(0).stop().await,
            _ => workers.remove(0).abort(),
        }
    }
    let texts = once_there(&output, MESSAGES).await;
    assert_eq!(sorted(texts), (0..MESSAGES).collect::<Vec<_>>());
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn what_was_published_for_a_nacked_delivery_is_never_seen() {
    let (input, output) = (topic(&[]).await, topic(&[]).await);
    let (subscriber, publisher) = pair(&unique("group"));
    put(&input, 0..2, 1).await;
    let mut subscription = subscriber.subscribe(&input).await.expect("it subscribes");
    let delivery = next(&mut subscription).await;
    let made = Message::new("half done").with_delivery(delivery.info().clone());
    publisher.publish_one(&output, made).await.expect("it is in the transaction");
    delivery.nack();
    for (number, attempt) in [(0, 2), (1, 1)] {
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.payload(), delivery.info().attempt()), (&number.to_string().into(), attempt));
        let made = Message::new(number.to_string()).with_delivery(delivery.info().clone());
        publisher.publish_one(&output, made).await.expect("it is in the transaction");
        delivery.ack();
    }
    assert_eq!(once_there(&output, 2).await, ["0", "1"]);
    subscription.close().await.expect("it closes");
    publisher.close().await.expect("it closes");
}

#[tokio::test]
async fn an_ack_is_confirmed_when_it_is_committed_with_the_output() {
    let (input, output) = (topic(&[]).await, topic(&[]).await);
    let (subscriber, publisher) = pair(&unique("group"));
    put(&input, 0..1, 1).await;
    let mut subscription = subscriber.subscribe(&input).await.expect("it subscribes");
    let delivery = next(&mut subscription).await;
    let made = Message::new("0").with_delivery(delivery.info().clone());
    publisher.publish_one(&output, made).await.expect("it is in the transaction");
    assert_eq!(texts(&output), [""; 0], "it is not committed yet");
    within("the commit", delivery.ack_confirmed()).await.expect("it is committed");
    assert_eq!(texts(&output), ["0"]);
    subscription.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_the_broker_refuses_is_dead_lettered_and_the_others_are_published() {
    let (input, output) = (topic(&[]).await, topic(&[("max.message.bytes", "2000")]).await);
    let dead = topic(&[]).await;
    let (subscriber, publisher) = pair(&unique("group"));
    put(&input, 0..20, 1).await;
    let grow = |message: Message| async move {
        let size = if message.payload() == "7" { 5_000 } else { 1 };
        Message::new(vec![b'x'; size])
    };
    let policy = FailurePolicy::retry(0).then_dead_letter(publisher.clone(), dead.as_str());
    let handler =
        Handler::new("grow", grow).from(subscriber, &*input).to(publisher, &*output).on_failure(policy);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(Router::new().add(handler).run_until(stopped));
    assert_eq!(once_there(&output, 19).await, ["x"; 19]);
    assert_eq!(once_there(&dead, 1).await, ["7"]);
    let _ = stop.send(());
    within("the router stops", running).await.expect("no panic").expect("it runs");
    assert_eq!((texts(&output).len(), texts(&dead).len()), (19, 1));
}

#[tokio::test]
async fn a_message_that_was_made_of_nothing_is_refused() {
    let output = topic(&[]).await;
    let (_subscriber, publisher) = pair(&unique("group"));
    let error = publisher.publish(&output, messages(0..1)).await.expect_err("it names no delivery");
    assert_eq!(error.kind(), PublishErrorKind::Unsupported, "{error:?}");
}

#[tokio::test]
async fn a_subscriber_that_cannot_be_one_of_a_pair_is_refused() {
    let refused = |config: KafkaSubscriberConfig| {
        let subscriber = KafkaSubscriber::new(config).expect("a valid config");
        KafkaExactlyOncePublisher::new(crate::support::config(), unique("id"), &subscriber)
            .expect_err("it is refused")
    };
    let lonely = refused(KafkaSubscriberConfig::new(brokers()));
    assert!(lonely.to_string().contains("without a group"), "{lonely}");
    let dirty = refused(reading("g").option("isolation.level", "read_uncommitted"));
    assert!(dirty.to_string().contains("isolation.level"), "{dirty}");

    let (subscriber, _publisher) = pair("g");
    let twice = KafkaExactlyOncePublisher::new(config(), unique("id"), &subscriber).expect_err("it has one");
    assert!(twice.to_string().contains("another publisher"), "{twice}");
}

#[tokio::test]
async fn a_pair_whose_id_somebody_else_uses_is_fenced_and_its_subscription_ends_with_the_reason() {
    let (input, group, id) = (topic(&[]).await, unique("group"), unique("id"));
    put(&input, 0..1, 1).await;
    let subscriber = KafkaSubscriber::new(reading(&group)).expect("a valid config");
    let publisher = KafkaExactlyOncePublisher::new(config(), &id, &subscriber).expect("a valid config");
    let mut subscription = subscriber.subscribe(&input).await.expect("it subscribes");
    let delivery = next(&mut subscription).await;
    let made = Message::new("0").with_delivery(delivery.info().clone());
    publisher.publish_one(&input, made).await.expect("it is in the transaction");

    drop(crate::support::raw(&id));
    delivery.ack();
    let error =
        within("the reason", subscription.next()).await.expect("there is one").expect_err("it is fenced");
    assert!(!error.is_retryable(), "{error:?}");
    assert!(within("the end", subscription.next()).await.is_none());

    let refused = within("an answer", subscriber.subscribe(&input)).await.expect_err("it is over");
    assert_eq!(
        refused.kind(),
        watermill_core::error::SubscribeErrorKind::Refused,
        "it is not closed: {refused}"
    );
    assert!(refused.to_string().contains("transactions of its publisher have ended"), "{refused}");
}
