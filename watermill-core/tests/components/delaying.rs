//! A queue beside a publisher that cannot wait, and the relay from it.

use std::time::Duration;

use watermill_core::{
    Message, Publisher, Router, components::DelayRelay, delay::DelayPublisher, delivery::Outcome,
    error::PublishErrorKind,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message};

#[tokio::test(start_paused = true)]
async fn a_delayed_message_arrives_in_its_topic_as_it_was() {
    let (out, queue) = (RecordingPublisher::new(), RecordingPublisher::new().delays(true));
    let publisher = DelayPublisher::new(out.clone(), queue.clone(), "delayed");
    let original = message("a").with_key("k").with_metadata("m", "n").delay_for(Duration::from_millis(1_500));
    publisher.publish("reminders", vec![original.clone(), message("b")]).await.unwrap();
    assert_eq!(out.published("reminders"), [message("b")]);

    // The queue delivers it when it is due.
    let due = ScriptedSubscriber::new();
    due.push(queue.published("delayed").remove(0));
    let relay = DelayRelay::new(due.clone(), "delayed", out.clone());
    let running = Running::start(Router::new().merge(relay.handlers())).await;
    assert_eq!(due.settled(1).await, [("a".into(), Outcome::Ack)]);
    assert_eq!(out.published("reminders")[1], original);
    running.stop().await;
}

#[tokio::test]
async fn a_queue_that_cannot_wait_refuses_what_asks_for_it() {
    let publisher = DelayPublisher::new(RecordingPublisher::new(), RecordingPublisher::new(), "delayed");
    let later = message("a").delay_for(Duration::from_secs(1));
    let error = publisher.publish("reminders", vec![later]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unsupported);
    assert!(!publisher.capabilities().delays);
}

#[tokio::test]
async fn where_the_publisher_waits_by_itself_nothing_goes_through_the_queue() {
    let (out, queue) = (RecordingPublisher::new().delays(true), RecordingPublisher::new().delays(true));
    let publisher = DelayPublisher::new(out.clone(), queue.clone(), "delayed");
    publisher.publish("reminders", vec![message("a").delay_for(Duration::from_secs(1))]).await.unwrap();
    assert_eq!((out.published("reminders").len(), queue.all_published().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_say_where_it_goes_is_put_aside_and_an_outage_puts_nothing_aside() {
    let (queue, out) =
        (ScriptedSubscriber::new().redeliver(true).dead_letters(true), RecordingPublisher::new());
    queue.push(message("lost"));
    queue.push(Message::with_id("a", "x").with_metadata("_watermill_delayed_topic", "out"));
    out.fail_next(3, PublishErrorKind::Unavailable);
    let relay = DelayRelay::new(queue.clone(), "delayed", out.clone());
    let running = Running::start(Router::new().merge(relay.handlers())).await;
    out.await_published(1).await;
    queue.finished().await;
    let outcomes = queue.outcomes();
    let rejected: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Reject { .. })).collect();
    assert_eq!(rejected.len(), 1, "{outcomes:?}");
    assert_eq!(rejected[0].0.as_str(), "lost");
    running.stop().await;
}
