//! From a delivery to a call, from a return value to publish and ack.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tower::layer::util::Identity;
use watermill_core::{
    DeliveryInfo, FailurePolicy, Handler, HandlerInfo, Json, Message, MessageId, Metadata, State,
    delivery::Outcome,
    error::PublishErrorKind,
    router::{RunErrorKind, To},
};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, ids, message, router};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Order {
    cents: u32,
}

#[tokio::test]
async fn extractors_read_the_payload_the_state_and_how_the_message_came() {
    type Seen = Arc<Mutex<Vec<String>>>;
    async fn look(
        id: MessageId,
        metadata: Metadata,
        delivery: DeliveryInfo,
        handler: HandlerInfo,
        State(seen): State<Seen>,
        Json(order): Json<Order>,
    ) {
        let tenant = metadata.get("tenant").unwrap_or("nobody");
        let line = format!(
            "{id} {tenant} {} {} {} {}",
            delivery.attempt(),
            delivery.topic(),
            handler.name,
            order.cents
        );
        seen.lock().unwrap().push(line);
    }
    let (source, seen) = (ScriptedSubscriber::new(), Seen::default());
    let order = Message::with_id("7", r#"{"cents":5}"#).with_metadata("tenant", "acme");
    source.push(ScriptedDelivery::new(order).attempt(3));
    let running = Running::start(
        router().with_state(seen.clone()).add(Handler::new("look", look).from(source.clone(), "orders")),
    )
    .await;
    assert_eq!(source.settled(1).await, [("7".into(), Outcome::Ack)]);
    assert_eq!(*seen.lock().unwrap(), ["7 acme 3 orders look 5"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn outputs_are_published_in_one_call_before_the_ack() {
    async fn fan(message: Message) -> Vec<Message> {
        (0..3).map(|n| Message::with_id(format!("{}-{n}", message.id()), "out")).collect()
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    target.hold();
    source.push(message("a"));
    let running = Running::start(
        router().add(Handler::new("fan", fan).from(source.clone(), "in").to(target.clone(), "out")),
    )
    .await;
    target.await_calls(1).await;
    assert_eq!(source.outcomes(), [], "not acked before the outputs are accepted");
    target.release();
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    assert_eq!(ids(&target.published("out")), ["a-0", "a-1", "a-2"]);
    assert_eq!(target.calls(), [("out".to_owned(), 3)]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn outputs_for_several_topics_go_out_in_one_call_for_each_topic() {
    async fn split(message: Message) -> Vec<To<&'static str, Message>> {
        let copy = |n: u8| Message::with_id(format!("{}{n}", message.id()), "x");
        vec![To("left", copy(1)), To("right", copy(2)), To("left", copy(3))]
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("m"));
    let running = Running::start(
        router().add(Handler::new("split", split).from(source.clone(), "in").to_topics(target.clone())),
    )
    .await;
    source.settled(1).await;
    assert_eq!(target.calls(), [("left".to_owned(), 2), ("right".to_owned(), 1)]);
    assert_eq!(ids(&target.published("left")), ["m1", "m3"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn outputs_name_their_delivery_to_a_publisher_that_commits_with_the_ack_and_to_no_other() {
    async fn copy(message: Message) -> Result<Message, &'static str> {
        if message.payload() == "bad" { Err("no") } else { Ok(Message::new("made")) }
    }
    for commits_with_ack in [true, false] {
        let source = ScriptedSubscriber::new();
        let target = RecordingPublisher::new().commits_with_ack(commits_with_ack);
        source.push(ScriptedDelivery::new(Message::new("good")));
        source.push(ScriptedDelivery::new(Message::new("bad")));
        let policy = FailurePolicy::retry(0).then_dead_letter(target.clone(), "dead");
        let handler = Handler::new("copy", copy).from(source.clone(), "in").to(target.clone(), "out");
        let running = Running::start(router().add(handler.on_failure(policy))).await;
        source.settled(2).await;
        for topic in ["out", "dead"] {
            let published = target.published(topic).remove(0);
            let named = published.delivery().map(|info| info.topic().to_owned());
            assert_eq!(named, commits_with_ack.then(|| "in".to_owned()), "{topic}");
        }
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn json_goes_in_and_json_comes_out() {
    async fn double(Json(order): Json<Order>) -> Result<Json<Order>, std::num::TryFromIntError> {
        Ok(Json(Order { cents: u32::try_from(u64::from(order.cents) * 2)? }))
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(Message::json(&Order { cents: 21 }).unwrap());
    let running = Running::start(
        router().add(Handler::new("double", double).from(source.clone(), "in").to(target.clone(), "out")),
    )
    .await;
    source.settled(1).await;
    assert_eq!(target.published("out")[0].decode_json::<Order>().unwrap(), Order { cents: 42 });
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_error_a_panic_and_a_failed_publish_are_nacked() {
    async fn fickle(message: Message) -> Result<Message, &'static str> {
        match &**message.id() {
            "error" => Err("no"),
            "panic" => panic!("oh"),
            _ => Ok(message),
        }
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    target.fail_next(1, PublishErrorKind::Unavailable);
    for id in ["error", "panic", "unpublished", "fine"] {
        source.push(message(id));
    }
    let running = Running::start(
        router().add(Handler::new("fickle", fickle).from(source.clone(), "in").to(target.clone(), "out")),
    )
    .await;
    let outcomes = source.settled(4).await;
    for (id, outcome) in &outcomes[..3] {
        assert!(matches!(outcome, Outcome::Nack { delay } if !delay.is_zero()), "{id}: {outcome:?}");
    }
    assert_eq!(outcomes[3], ("fine".into(), Outcome::Ack));
    let report = running.stop().await.unwrap();
    let counts = report.handler("fickle").unwrap().counts;
    assert_eq!((counts.received, counts.acked, counts.nacked), (4, 1, 3));
}

#[tokio::test]
async fn a_publisher_that_panics_is_a_failure_like_any_other() {
    struct Explosive;
    #[async_trait::async_trait]
    impl watermill_core::Publisher for Explosive {
        async fn publish(&self, _: &str, _: Vec<Message>) -> Result<(), watermill_core::error::PublishError> {
            panic!("boom")
        }
        async fn close(&self) -> Result<(), watermill_core::error::PublishError> {
            Ok(())
        }
        fn capabilities(&self) -> watermill_core::publisher::PublisherCapabilities {
            watermill_core::publisher::PublisherCapabilities::new("explosive")
        }
    }
    async fn pass(message: Message) -> Message {
        message
    }
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    let running = Running::start(
        router().add(Handler::new("pass", pass).from(source.clone(), "in").to(Explosive, "out")),
    )
    .await;
    assert!(matches!(source.settled(1).await[0].1, Outcome::Nack { .. }));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_nacked_with_the_reason_and_never_loops_hot() {
    async fn count(Json(_): Json<Order>) {}
    let source = ScriptedSubscriber::new();
    source.push(Message::with_id("bad", "not json"));
    let running = Running::start(router().add(Handler::new("count", count).from(source.clone(), "in"))).await;
    assert!(matches!(source.settled(1).await[0].1, Outcome::Nack { delay } if delay.as_millis() >= 50));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn every_problem_of_a_router_is_reported_at_once_before_anything_starts() {
    async fn nothing() {}
    let source = ScriptedSubscriber::new();
    let error = router()
        .add(Handler::new("twice", nothing).from(source.clone(), "a"))
        .add(Handler::new("twice", nothing).from(source.clone(), "b"))
        .add(Handler::new("idle", nothing).from(source.clone(), "c").concurrency(0))
        .add(Handler::new("nowhere", nothing).from(source.clone(), ""))
        .layer(Identity::new())
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    let text = error.to_string();
    for part in ["\"twice\"", "concurrency must be at least one", "no name", "`layer` was called after"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(source.subscribe_calls(), 0);
}
