//! Fan-in: Go's component tests, and the topic that a message came from.

use futures::StreamExt as _;
use watermill_core::{
    MemoryBroker, Message, Publisher as _, PublisherExt as _, Router, Subscriber as _, components::FanIn,
    delivery::Outcome, error::PublishErrorKind,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, ids, message};

#[tokio::test]
async fn all_messages_of_all_topics_arrive_each_topic_in_order_with_its_name() {
    let (broker, out) = (MemoryBroker::new(), RecordingPublisher::new());
    let topics = ["a", "b", "c"];
    let fan_in = FanIn::new(out.clone(), "all").from(broker.subscriber().group("g"), topics);
    let running = Running::start(Router::new().merge(fan_in.handlers().unwrap())).await;
    for topic in topics {
        let messages = (0..20).map(|n| message(format!("{topic}{n:02}")).with_key(topic)).collect();
        broker.publisher().publish(topic, messages).await.unwrap();
    }
    out.await_published(60).await;
    let arrived = out.published("all");
    for topic in topics {
        let from_topic: Vec<&Message> = arrived
            .iter()
            .filter(|message| message.metadata().get("_watermill_source_topic") == Some(topic))
            .collect();
        assert_eq!(
            ids(from_topic.iter().copied()),
            (0..20).map(|n| format!("{topic}{n:02}")).collect::<Vec<_>>()
        );
        assert!(
            from_topic
                .iter()
                .all(|message| message.key().unwrap() == topic && message.payload() == "payload")
        );
    }
    let report = running.stop().await;
    assert_eq!(report.handler("fan_in_b").unwrap().counts.acked, 20);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_away_is_waited_for() {
    let (source, out) =
        (ScriptedSubscriber::new().redeliver(true).dead_letters(true), RecordingPublisher::new());
    out.fail_next(4, PublishErrorKind::Unavailable);
    source.push(message("a"));
    let fan_in = FanIn::new(out.clone(), "all").from(source.clone(), ["in"]);
    let running = Running::start(Router::new().merge(fan_in.handlers().unwrap())).await;
    out.await_published(1).await;
    running.stop().await;
    assert!(!source.outcomes().iter().any(|(_, outcome)| matches!(outcome, Outcome::Reject { .. })));
}

#[test]
fn what_cannot_work_is_refused() {
    let broker = MemoryBroker::new();
    let to = |target: &str| FanIn::new(broker.publisher(), target);
    let none: [&str; 0] = [];
    for (wrong, said) in [
        (to("all"), "no topic to take messages from"),
        (to("all").from(broker.subscriber(), none), "no topic to take messages from"),
        (to("all").from(broker.subscriber(), [""]), "has no name"),
        (to("all").from(broker.subscriber(), ["a", ""]), "has no name"),
        (to("all").from(broker.subscriber(), ["a", "a"]), "named twice"),
        (to("").from(broker.subscriber(), ["a"]), "the topic to publish to has no name"),
        (to("a").from(broker.subscriber(), ["b", "a"]), "go round for ever"),
    ] {
        let error = wrong.handlers::<()>().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let elsewhere = FanIn::new(RecordingPublisher::new(), "a").from(broker.subscriber(), ["a"]);
    let _ = elsewhere.handlers::<()>().expect("the topics only have the same name");
}

#[tokio::test]
async fn clusters_of_one_backend_may_have_the_same_topics() {
    let (east, west, target) = (MemoryBroker::new(), MemoryBroker::new(), MemoryBroker::new());
    let fan_in = FanIn::new(target.publisher(), "orders")
        .to_elsewhere()
        .from(east.subscriber().group("g"), ["orders", "refunds"])
        .from(west.subscriber().group("g"), ["orders"]);
    let mut arrived = target.subscriber().subscribe("orders").await.unwrap();
    let running = Running::start(Router::new().merge(fan_in.handlers().unwrap())).await;
    for (broker, topic, id) in [(&east, "orders", "a"), (&east, "refunds", "b"), (&west, "orders", "c")] {
        broker.publisher().publish_one(topic, message(id)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let delivery = arrived.next().await.unwrap().unwrap();
        seen.push((
            delivery.id().to_string(),
            delivery.metadata().get("_watermill_source_topic").unwrap().to_owned(),
        ));
        delivery.ack();
    }
    seen.sort();
    let from = |id: &str, topic: &str| (id.to_owned(), topic.to_owned());
    assert_eq!(seen, [from("a", "orders"), from("b", "refunds"), from("c", "orders")]);
    let report = running.stop().await;
    for handler in ["fan_in_orders", "fan_in_refunds", "fan_in_orders_2"] {
        assert_eq!(report.handler(handler).unwrap().counts.acked, 1, "{handler}");
    }
}
