//! Messages that a broker refuses, with others of their key around them.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
};
use watermill_core::{
    Message, Publisher as _, Subscriber as _,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::unique;

use crate::support::{ask, brokers, config, messages, next, ordered, publish, subscriber, topic, within};

/// What the topic takes, far below what a client may send.
const BYTES_MAX: &str = "10000";

async fn topic_of_small_messages() -> String {
    topic_of_messages_up_to(BYTES_MAX).await
}

async fn topic_of_messages_up_to(bytes: &str) -> String {
    let topic = unique("small");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let made = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", bytes);
    let results = admin.create_topics(&[made], &AdminOptions::new()).await.expect("the broker answers");
    results.into_iter().for_each(|result| drop(result.expect("the topic is made")));
    topic
}

async fn written(topic: &str) -> i64 {
    let topic = topic.to_owned();
    ask(move |consumer, timeout| consumer.fetch_watermarks(&topic, 0, timeout).expect("watermarks").1).await
}

fn small(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(|number| Message::new(number.to_string()).with_key("k"))
}

#[tokio::test]
async fn of_a_key_nothing_is_written_behind_a_message_that_the_broker_refuses() {
    let topic = topic_of_small_messages().await;
    // Every message is a batch of its own, and several are on their way at once.
    let config = KafkaPublisherConfig::new(brokers()).option("batch.num.messages", "1");
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let refused = Message::new(vec![b'x'; 50_000]).with_key("k");
    let call: Vec<_> = small(0..20).chain([refused]).chain(small(21..60)).collect();

    let error = within("the call", publisher.publish(&topic, call)).await.expect_err("one is refused");
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    assert_eq!(*error.not_accepted(), NotAccepted::At((20..60).collect()), "{error:?}");
    assert_eq!(written(&topic).await, 20, "something was written behind the refused message");

    within("the rest", publisher.publish(&topic, small(21..60).collect())).await.expect("it is accepted");
    assert_eq!(written(&topic).await, 59, "each was written once");
    publisher.close().await.expect("it closes");
}

#[tokio::test]
async fn good_messages_that_make_a_batch_too_large_are_sent_in_smaller_ones_and_none_is_blamed() {
    let topic = topic_of_messages_up_to("100000").await;
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(brokers())).expect("a valid config");
    for call in 0..3 {
        let message =
            |n: usize| Message::new(vec![b'x'; 30_000]).with_metadata("n", n.to_string()).with_key("k");
        let (first, second) = (call * 200..call * 200 + 100, call * 200 + 100..call * 200 + 200);
        let calls = [first, second].map(|numbers| publisher.publish(&topic, numbers.map(message).collect()));
        let accepted = within("the calls", futures::future::join_all(calls)).await;
        accepted.into_iter().for_each(|accepted| accepted.expect("each of them fits"));
    }
    let mut subscription = subscriber(config()).subscribe(&topic).await.expect("it subscribes");
    for n in 0..600 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.metadata().get("n"), Some(&*n.to_string()), "in order, and once");
        delivery.ack();
    }
    subscription.close().await.expect("it closes");
    assert_eq!(written(&topic).await, 600);
    publisher.close().await.expect("it closes");
}

#[tokio::test]
async fn of_a_batch_that_is_refused_the_message_that_is_too_large_is_blamed_and_those_before_it_are_written()
{
    let topic = topic_of_small_messages().await;
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(brokers())).expect("a valid config");
    let refused = Message::new(vec![b'x'; 50_000]).with_key("k");
    let call: Vec<_> = small(0..20).chain([refused]).chain(small(21..60)).collect();
    let error = within("the call", publisher.publish(&topic, call)).await.expect_err("one is refused");
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    assert_eq!(*error.not_accepted(), NotAccepted::At((20..60).collect()), "{error:?}");
    assert_eq!(written(&topic).await, 20, "something was written behind the refused message");
    within("the rest", publisher.publish(&topic, small(21..60).collect())).await.expect("it is accepted");
    assert_eq!(written(&topic).await, 59, "each was written once");
    publisher.close().await.expect("it closes");
}

#[tokio::test]
async fn a_dead_letter_that_is_too_large_goes_without_its_payload_and_holds_nothing_up() {
    let (topic, dead) = (topic(1).await, topic_of_small_messages().await);
    publish(&topic, &messages(0..3, 1)).await;
    publish(&topic, &[Message::with_id("large", vec![b'x'; 50_000]).with_key("k")]).await;
    publish(&topic, &messages(4..7, 1)).await;
    let rejecting = config().group(unique("group")).dead_letter_topic(&dead);
    let mut subscription = subscriber(rejecting).subscribe(&topic).await.expect("it subscribes");
    subscription.set_window(ordered(10));
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(next(&mut subscription).await);
    }
    // Together, so that they are sent in one call.
    all.into_iter().for_each(|delivery| delivery.reject("no"));
    publish(&topic, &messages(7..8, 1)).await;
    within("the last", next(&mut subscription).await.ack_confirmed()).await.expect("nothing is held up");
    subscription.close().await.expect("it closes");

    let mut letters = subscriber(config()).subscribe(&dead).await.expect("it subscribes");
    for id in ["0000", "0001", "0002", "large", "0004", "0005", "0006"] {
        let letter = next(&mut letters).await;
        assert_eq!(letter.id(), id);
        let cut = (id == "large").then_some("50000");
        assert_eq!(letter.metadata().get("payload_bytes_poisoned"), cut);
        assert_eq!(letter.payload().is_empty(), cut.is_some());
        letter.ack();
    }
    letters.close().await.expect("it closes");
}
