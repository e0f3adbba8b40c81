//! What the spans say of a message's place in Kafka and in Google's Pub/Sub.

use std::sync::Arc;

use async_trait::async_trait;
use opentelemetry_sdk::trace::SpanData;
use watermill_core::{
    Handler, Message, Publisher, Subscriber, Subscription,
    error::{PublishError, SubscribeError},
    publisher::PublisherCapabilities,
    subscriber::SubscriberCapabilities,
    subscription::SubscriptionStatus,
};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::support::{Exported, assert_attributes, attribute, carrying, router, run};

/// One that says to be another backend's.
struct As<T>(&'static str, T);

#[async_trait]
impl Subscriber for As<ScriptedSubscriber> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.1.subscribe(topic).await
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.1.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        self.1.in_group(group)
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.1.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.1.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(self.0).attempts(true)
    }
}

#[async_trait]
impl Publisher for As<RecordingPublisher> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        self.1.publish(topic, messages).await
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.1.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(self.0)
    }
}

async fn processed(backend: &'static str, delivery: ScriptedDelivery) -> SpanData {
    let exported = Exported::new();
    let source = ScriptedSubscriber::new();
    source.push(delivery);
    let handler = Handler::new("bill", async |_: Message| {}).from(As(backend, source.clone()), "orders");
    run(router().add(handler), &source, 1).await;
    exported.one("process orders")
}

async fn sent(backend: &'static str, message: Message) -> SpanData {
    let exported = Exported::new();
    let publisher = Traces::new().publisher(As(backend, RecordingPublisher::new()));
    publisher.publish("orders", vec![message]).await.unwrap();
    exported.one("send orders")
}

fn assert_says_nothing_of(span: &SpanData, names: &[&str]) {
    let said: Vec<_> = names.iter().filter(|name| attribute(span, name).is_some()).collect();
    assert!(said.is_empty(), "{said:?}");
}

const KAFKA: [&str; 3] =
    ["messaging.kafka.offset", "messaging.kafka.message.key", "messaging.kafka.message.tombstone"];
const PUBSUB: [&str; 2] =
    ["messaging.gcp_pubsub.message.ordering_key", "messaging.gcp_pubsub.message.delivery_attempt"];

#[tokio::test]
async fn a_record_of_kafka_has_its_partition_its_offset_and_its_key() {
    let delivery = || ScriptedDelivery::new(carrying("1").with_key("customer 7")).partition(3).offset(4711);
    let span = processed("kafka", delivery()).await;
    assert_attributes(
        &span,
        &[
            ("messaging.system", "kafka"),
            ("messaging.destination.partition.id", "3"),
            ("messaging.kafka.offset", "4711"),
            ("messaging.kafka.message.key", "customer 7"),
        ],
    );
    assert_says_nothing_of(&span, &PUBSUB);
    assert_says_nothing_of(&span, &["messaging.kafka.message.tombstone"]);

    // The names are those of one system: another one's place is told in general only.
    let span = processed("sql", delivery()).await;
    assert_attributes(&span, &[("messaging.destination.partition.id", "3")]);
    assert_says_nothing_of(&span, &[KAFKA, [PUBSUB[0], PUBSUB[1], ""]].concat());
}

#[tokio::test]
async fn a_tombstone_of_kafka_and_a_key_that_is_no_text_are_told_as_such() {
    let tombstone = carrying("1").with_key(vec![0xff, 0xfe]).without_value();
    let span = processed("kafka", ScriptedDelivery::new(tombstone)).await;
    assert_attributes(&span, &[("messaging.kafka.message.tombstone", "true")]);
    assert_says_nothing_of(&span, &["messaging.kafka.message.key", "messaging.kafka.offset"]);
}

#[tokio::test]
async fn a_message_of_pub_sub_has_its_ordering_key_and_its_delivery_attempt() {
    let delivery = ScriptedDelivery::new(carrying("1").with_key("customer 7")).attempt(2);
    let span = processed("pubsub", delivery).await;
    assert_attributes(
        &span,
        &[
            ("messaging.system", "gcp_pubsub"),
            ("messaging.gcp_pubsub.message.ordering_key", "customer 7"),
            ("messaging.gcp_pubsub.message.delivery_attempt", "2"),
        ],
    );
    assert_says_nothing_of(&span, &KAFKA);
}

#[tokio::test]
async fn what_is_sent_has_its_key_under_the_name_of_its_system() {
    let message = || Message::with_id("1", "x").with_key("customer 7");
    let span = sent("kafka", message()).await;
    assert_attributes(&span, &[("messaging.system", "kafka"), ("messaging.kafka.message.key", "customer 7")]);
    assert_says_nothing_of(&span, &PUBSUB);
    let span = sent("pubsub", message()).await;
    assert_attributes(
        &span,
        &[("messaging.system", "gcp_pubsub"), ("messaging.gcp_pubsub.message.ordering_key", "customer 7")],
    );
    assert_says_nothing_of(&span, &KAFKA);
    assert_says_nothing_of(&sent("sql", message()).await, &[KAFKA[1], PUBSUB[0]]);
}
