//! The start: side by side, in a fixed order, and honest about what has not subscribed.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::{
    Backoff, FailurePolicy, Handler, Message, RetryTopics,
    delivery::Outcome,
    error::SubscribeErrorKind,
    router::{Added, RouterConfig, RunErrorKind, StartPolicy},
    subscription::Health,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, doubles::Slow, router};

async fn nothing() {}

#[tokio::test(start_paused = true)]
async fn a_hundred_handlers_subscribe_32_at_a_time() {
    let slow = Slow { subscribing: Duration::from_secs(1), ..Slow::default() };
    let router = (0..100).fold(router(), |router, number| {
        router.add(Handler::new(format!("handler {number}"), nothing).from(slow.clone(), "in"))
    });
    let began = Instant::now();
    let running = Running::start(router).await;
    assert_eq!(began.elapsed(), Duration::from_secs(4));
    assert_eq!(slow.script.subscribed().len(), 100);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_several_that_cannot_subscribe_the_first_that_was_added_is_named() {
    let bad = |seconds| {
        let slow = Slow { subscribing: Duration::from_secs(seconds), ..Slow::default() };
        slow.script.fail_subscribe(1, SubscribeErrorKind::Refused);
        slow
    };
    let router = router()
        .add(Handler::new("slow", nothing).from(bad(9), "in"))
        .add(Handler::new("quick", nothing).from(bad(1), "in"));
    let error = router.run().await.unwrap_err();
    assert!(error.to_string().contains("\"slow\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_added_and_cannot_subscribe_yet_says_that_it_goes_on_trying() {
    let source = ScriptedSubscriber::new();
    source.fail_subscribe(2, SubscribeErrorKind::Unavailable);
    let waits = Backoff::constant(Duration::from_secs(5));
    let router = router().with_config(RouterConfig::default().start(StartPolicy::Retry(waits)));
    let handle = router.handle();
    let running = Running::start(router).await;
    let added = handle.add(Handler::new("late", nothing).from(source.clone(), "in")).await.unwrap();
    let Added::Retrying { error } = added else { panic!("{added:?}") };
    assert!(error.contains("unavailable"), "{error}");
    let health = handle.handler("late").unwrap().subscription.health;
    assert!(
        matches!(&health, Health::Degraded { reason } if reason.contains("not subscribed yet: ")),
        "{health:?}"
    );
    source.await_subscribed(1).await;

    let refused = ScriptedSubscriber::new();
    refused.fail_subscribe(1, SubscribeErrorKind::Refused);
    let added = handle.add(Handler::new("refused", nothing).from(refused.clone(), "in")).await;
    assert_eq!(added.unwrap_err().kind(), RunErrorKind::Start);
    let added = handle.add(Handler::new("refused", nothing).from(refused, "in")).await;
    assert_eq!(added.unwrap(), Added::Subscribed, "its name was free again");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_retry_topic_is_refused_takes_no_message() {
    let (source, retries, other) =
        (ScriptedSubscriber::new(), ScriptedSubscriber::new(), ScriptedSubscriber::new());
    retries.fail_subscribe(1, SubscribeErrorKind::Refused);
    source.push(Message::with_id("a", "payload"));
    other.push(Message::with_id("b", "payload"));
    let topics = RetryTopics::new(RecordingPublisher::new(), retries, "retry")
        .after([Duration::from_secs(1)])
        .then_dead_letter(RecordingPublisher::new(), "dead")
        .giving_up_order();
    let policy = FailurePolicy::nack().then_retry_topics(topics);
    let start = StartPolicy::Retry(Backoff::constant(Duration::from_secs(1)));
    let router = router()
        .with_config(RouterConfig::default().start(start))
        .add(Handler::new("fragile", nothing).from(source.clone(), "in").on_failure(policy))
        .add(Handler::new("other", nothing).from(other.clone(), "in"));
    let running = Running::start(router).await;
    other.settled(1).await;
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("fragile.retry.1s"), "{error}");
    assert_eq!(error.report().handler("fragile").unwrap().counts.received, 0);
    assert!(
        source.outcomes().iter().all(|(_, outcome)| *outcome != Outcome::Ack),
        "its message waits where it is"
    );
}
