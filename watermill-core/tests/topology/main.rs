//! What a router is made of, as text, JSON, a graph, sentences, and a document of AsyncAPI.

#[cfg(feature = "asyncapi")]
mod asyncapi;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tower::timeout::TimeoutLayer;
use watermill_core::{
    Backoff, FailurePolicy, Handler, Handlers, Json, Message, Publisher, Router, Subscriber, Subscription,
    error::{PublishError, SubscribeError},
    middleware::Correlation,
    publisher::PublisherCapabilities,
    router::{To, topology::Topology},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// A broker that nobody may connect to.
#[derive(Clone)]
struct Untouchable;

#[async_trait]
impl Subscriber for Untouchable {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        panic!("it was connected to, for {topic}")
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        panic!("it was connected to, for {topic}")
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        panic!("it was connected to, for {group}")
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        panic!("it was connected to")
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        panic!("it was connected to")
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("kafka").groups(true).ordering(Ordering::Scoped)
    }
}

#[async_trait]
impl Publisher for Untouchable {
    async fn publish(&self, topic: &str, _messages: Vec<Message>) -> Result<(), PublishError> {
        panic!("it was connected to, for {topic}")
    }

    async fn close(&self) -> Result<(), PublishError> {
        panic!("it was connected to")
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("kafka").keeps_order(true)
    }
}

async fn bill(Json(pieces): Json<u32>) -> Json<u32> {
    Json(pieces * 250)
}

async fn sort(message: Message) -> To<&'static str, Message> {
    To("sorted", message)
}

async fn archive(_messages: Vec<Message>) {}

/// One handler of each kind.
fn shop() -> Topology {
    let retries = FailurePolicy::retry(5)
        .backoff(Backoff::constant(Duration::from_millis(50)))
        .max_deliveries(3)
        .then_dead_letter(Untouchable, "billing.dead");
    let bill = Handler::new("bill", bill)
        .from(Untouchable, "orders")
        .to(Untouchable, "invoices")
        .group("billing")
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .on_failure(retries);
    let sort = Handler::new("sort", sort).from(Untouchable, "letters").to_topics(Untouchable).concurrency(8);
    let archive = Handler::batch("archive", 100, Duration::from_secs(1), archive)
        .from(Untouchable, "invoices")
        .on_failure(FailurePolicy::nack().then_drop());
    Router::new()
        .layer(Correlation::new())
        .add(bill)
        .merge(Handlers::new().add(sort).layer(TimeoutLayer::new(Duration::from_secs(1))))
        .add(archive)
        .describe()
}

#[test]
fn each_handler_is_a_line_of_text_and_nobody_is_connected_to() {
    assert_eq!(
        shop().to_string(),
        "kafka:orders -> Correlation > TimeoutLayer > bill -> kafka:invoices (on failure: retry 5 times, then nack \
         until delivered 3 times, then dead-letter to \"billing.dead\")\n\
         kafka:letters -> Correlation > TimeoutLayer > sort -> kafka (on failure: nack)\n\
         kafka:invoices -> Correlation > archive (on failure: drop)\n"
    );
}

#[test]
fn tools_read_it_as_json() {
    let handlers = &shop().to_json()["handlers"];
    assert_eq!(
        handlers[0],
        json!({
            "name": "bill",
            "source": { "backend": "kafka", "topic": "orders" },
            "group": "billing",
            "delivery": "at_least_once",
            "ordering": "scoped",
            "running": { "at_once": "one_of_each_scope", "max": 64, "outstanding_max": 1064, "pipeline": 1000 },
            "layers": ["Correlation", "TimeoutLayer"],
            "consumes": [],
            "produces": [],
            "destination": { "to": "topic", "backend": "kafka", "topic": "invoices" },
            "on_failure": {
                "retries": 5,
                "backoff": { "initial_ms": 50, "max_ms": 50, "multiplier": 1.0, "jitter": 0.0 },
                "max_deliveries": 3,
                "nack_backoff": { "initial_ms": 100, "max_ms": 30000, "multiplier": 2.0, "jitter": 0.2 },
                "then": { "do": "dead_letter", "backend": "kafka", "topic": "billing.dead" },
            },
        })
    );
    assert_eq!(handlers[1]["destination"], json!({ "to": "named_by_messages", "backend": "kafka" }));
    assert_eq!(handlers[1]["running"]["at_once"], "any");
    assert_eq!(handlers[2]["destination"], json!({ "to": "nowhere" }));
    assert_eq!(handlers[2]["running"]["at_once"], "batch");
}

#[test]
fn it_is_a_graph_of_topics_and_handlers() {
    let graph = Topology::default().merge(shop()).to_dot();
    assert_eq!(
        graph,
        r#"digraph watermill {
  rankdir=LR;
  "kafka:*" [shape=box];
  "kafka:billing.dead" [shape=box];
  "kafka:invoices" [shape=box];
  "kafka:letters" [shape=box];
  "kafka:orders" [shape=box];
  "handler bill" [label="Correlation\nTimeoutLayer\nbill"];
  "kafka:orders" -> "handler bill";
  "handler bill" -> "kafka:invoices";
  "handler bill" -> "kafka:billing.dead" [style=dashed];
  "handler sort" [label="Correlation\nTimeoutLayer\nsort"];
  "kafka:letters" -> "handler sort";
  "handler sort" -> "kafka:*";
  "handler archive" [label="Correlation\narchive"];
  "kafka:invoices" -> "handler archive";
}
"#
    );
}

#[test]
fn a_handler_is_explained_in_sentences() {
    let shop = shop();
    let explained = |name: &str| shop.handler(name).expect("it was added").explain().to_string();
    assert_eq!(
        explained("bill"),
        r#"bill
  takes      kafka:orders for the group "billing", at least once, in the order of each of its scopes, a partition or a key
  at once    one message of each scope, of up to 64 scopes; up to 1064 are handed out and not settled
  through    Correlation, TimeoutLayer, the first outside of the others
  publishes  what it returns to kafka:invoices, accepted before the message is acked; up to 1000 later ones are handled meanwhile
  fails      it is tried again in place 5 times, after 50ms; what comes behind it in its scope waits, then given back until it was delivered 3 times, to come again after 100ms, then 2 times longer each time, up to 30s, more or less by up to 20 %; an error that trying again cannot mend skips this
  in the end it is published to kafka:billing.dead with the reason, and acked when that is accepted
"#
    );
    let archive = explained("archive");
    assert!(archive.contains("a batch of up to 100, one batch after another"), "{archive}");
    assert!(archive.contains("publishes  nothing"), "{archive}");
    assert!(archive.contains("in the end it is acked and its error logged"), "{archive}");
    assert!(shop.handler("nobody").is_none());
}
