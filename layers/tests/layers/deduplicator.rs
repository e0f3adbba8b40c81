use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use watermill_core::{
    FailurePolicy, Handler, Message, Router,
    delivery::Outcome,
    error::{BoxError, PublishErrorKind},
    middleware::MemoryDeduplicationStore,
};
use watermill_layers::Deduplicator;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message};

fn deduplicator() -> Deduplicator {
    Deduplicator::new(MemoryDeduplicationStore::new(Duration::from_secs(60), 100))
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_acked_unhandled_and_a_message_that_failed_is_handled_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let fail_first = move || {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err::<(), BoxError>("boom".into()) } else { Ok(()) } }
    };
    let source = ScriptedSubscriber::new();
    for _ in 0..3 {
        source.push(message("a"));
    }
    let handler = Handler::new("handle", fail_first).from(source.clone(), "in").layer(deduplicator());
    let running = Running::start(Router::new().add(handler)).await;
    let outcomes: Vec<_> = source.settled(3).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::Nack { .. }, Outcome::Ack, Outcome::Ack]), "{outcomes:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_progress_comes_again_though_the_policy_drops_what_fails() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let wait = move || {
        let gate = opened.clone();
        async move { gate.acquire().await.expect("it is not closed").forget() }
    };
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    source.push(message("a"));
    let handler = Handler::new("handle", wait)
        .from(source.clone(), "in")
        .concurrency(2)
        .layer(deduplicator())
        .on_failure(FailurePolicy::retry(0).then_drop());
    let running = Running::start(Router::new().add(handler)).await;
    assert!(matches!(source.settled(1).await[0].1, Outcome::Nack { delay } if !delay.is_zero()));
    gate.add_permits(1);
    assert_eq!(source.settled(2).await[1].1, Outcome::Ack);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_outputs_were_refused_is_no_repeat_when_it_is_tried_again_in_place() {
    async fn pass(message: Message) -> Message {
        message
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    target.fail_next(1, PublishErrorKind::Unavailable);
    source.push(message("a"));
    let handler = Handler::new("pass", pass)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .layer(deduplicator())
        .on_failure(FailurePolicy::retry(1).then_drop());
    let running = Running::start(Router::new().add(handler)).await;
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    assert_eq!(target.published("out").len(), 1, "it was published, not taken for a repeat");
    running.stop().await;
}
