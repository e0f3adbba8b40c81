//! Messages that a broker refuses, with others of their key around them.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
};
use watermill_core::{
    Message, Publisher as _,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::unique;

use crate::support::{ask, brokers, within};

/// What the topic takes, far below what a client may send.
const BYTES_MAX: &str = "10000";

async fn topic_of_small_messages() -> String {
    let topic = unique("small");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let made = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", BYTES_MAX);
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
