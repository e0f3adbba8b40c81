//! Middleware in a running router, where it meets failure policies, publishers and settlements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use watermill_core::{
    Backoff, FailurePolicy, Handler, Message, Router, State,
    delivery::Outcome,
    error::PublishErrorKind,
    middleware::{
        CircuitBreaker, Correlation, Deduplicator, DelayOnError, InstantAck, MemoryDeduplicationStore,
        PoisonQueue, Retry, Throttle, Timeout,
    },
    router::{Phase, Report, RouterControl, RunError},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

type Calls = Arc<AtomicU32>;

/// A router that runs in the background.
struct Running {
    control: RouterControl,
    task: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    async fn start<S: Send + 'static, L: Send + Sync + 'static>(router: Router<S, L>) -> Self {
        let control = router.control();
        let task = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { control, task }
    }

    async fn stop(self) {
        self.control.stop();
        self.task.await.expect("the router does not panic").expect("nothing was abandoned");
    }
}

fn message(id: &str) -> Message {
    Message::with_id(id, "payload")
}

async fn count_and_pass_on(State(calls): State<Calls>, message: Message) -> Message {
    calls.fetch_add(1, Ordering::SeqCst);
    message
}

async fn fail() -> Result<(), &'static str> {
    Err("boom")
}

fn deduplicator() -> Deduplicator {
    Deduplicator::new(MemoryDeduplicationStore::new(Duration::from_secs(60), 1000))
}

#[tokio::test(start_paused = true)]
async fn a_deduplicated_message_whose_outputs_were_refused_is_not_lost() {
    let (source, target, calls) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Calls::default());
    target.fail_next(1, PublishErrorKind::Unavailable);
    let handler = Handler::new("pass", count_and_pass_on)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .layer(deduplicator())
        .on_failure(FailurePolicy::retry(1).backoff(Backoff::constant(Duration::from_millis(1))));
    let running = Running::start(Router::new().with_state(calls.clone()).add(handler)).await;
    source.push(message("a"));
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    assert_eq!(target.published("out").len(), 1);
    source.push(message("a"));
    assert_eq!(source.settled(2).await[1], ("a".into(), Outcome::Ack));
    assert_eq!(target.published("out").len(), 1, "the second one is a repeat");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_pauses_the_intake_and_nothing_is_nacked_meanwhile() {
    let (source, calls) = (ScriptedSubscriber::new(), Calls::default());
    async fn fail_once(State(calls): State<Calls>) -> Result<(), &'static str> {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 { Err("down") } else { Ok(()) }
    }
    let open_for = Duration::from_secs(10);
    let handler =
        Handler::new("call", fail_once).from(source.clone(), "in").layer(CircuitBreaker::new(1, open_for));
    let running = Running::start(Router::new().with_state(calls.clone()).add(handler)).await;
    let began = Instant::now();
    source.push(message("a"));
    source.settled(1).await;
    source.push(message("b"));
    source.settled(2).await;
    assert!(began.elapsed() >= open_for, "the second message was not taken before");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttle_spaces_the_messages_of_a_subscription() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    let handler = Handler::new("pass", count_and_pass_on)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .layer(Throttle::new(10, Duration::from_secs(1)).unwrap());
    for id in ["a", "b", "c"] {
        source.push(message(id));
    }
    let began = Instant::now();
    let running = Running::start(Router::new().with_state(Calls::default()).add(handler)).await;
    target.await_published(3).await;
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_recommended_stack_dead_letters_with_names_ids_and_delay() {
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    let handler = Handler::new("bill", fail)
        .from(source.clone(), "orders")
        .layer(Correlation::new())
        .layer(deduplicator())
        .layer(PoisonQueue::new(dead.clone(), "dead").unwrap())
        .layer(DelayOnError::new(Duration::from_secs(10)))
        .layer(Retry::new(2))
        .layer(Timeout::new(Duration::from_secs(5)));
    let running = Running::start(Router::new().add(handler)).await;
    source.push(message("a"));
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    let letters = dead.published("dead");
    let letter = &letters[0];
    for (name, value) in [
        ("reason_poisoned", "boom"),
        ("handler_poisoned", "bill"),
        ("topic_poisoned", "orders"),
        ("_watermill_delayed_for", "10s"),
    ] {
        assert_eq!(letter.metadata().get(name), Some(value), "{name}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_instant_ack_is_the_only_word_a_backend_hears() {
    let source = ScriptedSubscriber::new();
    let handler = Handler::new("gauge", fail).from(source.clone(), "in").layer(InstantAck::new());
    let running = Running::start(Router::new().add(handler)).await;
    source.push(message("a"));
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    running.stop().await;
    assert_eq!(source.settled(1).await.len(), 1);
}
