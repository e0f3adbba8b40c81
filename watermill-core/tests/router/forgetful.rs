//! Backends that cannot wait before they deliver again, or cannot count how often they did.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::{
    Backoff, DeliveryInfo, FailurePolicy, Handler, State, delivery::Outcome, error::Verdict,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

/// When the handler was called, and for which attempt.
type Calls = Arc<Mutex<Vec<(Duration, u32)>>>;

#[derive(Clone)]
struct Clock {
    started: Instant,
    calls: Calls,
}

impl Clock {
    fn new() -> Self {
        Self { started: Instant::now(), calls: Calls::default() }
    }

    fn calls(&self) -> Vec<(Duration, u32)> {
        self.calls.lock().unwrap().clone()
    }
}

async fn fail(State(clock): State<Clock>, info: DeliveryInfo) -> Result<(), &'static str> {
    clock.calls.lock().unwrap().push((clock.started.elapsed(), info.attempt()));
    Err("always")
}

/// A backend that hands out what was nacked at once, whatever the delay, and does not know how often it did.
fn forgetful() -> ScriptedSubscriber {
    ScriptedSubscriber::new().redeliver(true).attempts(false).nack_delay(false)
}

fn outcomes(source: &ScriptedSubscriber) -> Vec<Outcome> {
    source.outcomes().into_iter().map(|(_, outcome)| outcome).collect()
}

fn doubling() -> Backoff {
    Backoff::exponential(Duration::from_secs(1)).jitter(0.0)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_always_fails_is_called_with_growing_waits_on_any_backend() {
    let (source, clock) = (forgetful(), Clock::new());
    source.push(message("a"));
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::nack().nack_backoff(doubling()));
    let running = Running::start(router().with_state(clock.clone()).add(handler)).await;
    while clock.calls().len() < 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.stop().await.unwrap();
    let seconds: Vec<_> = clock.calls().iter().map(|(at, attempt)| (at.as_secs(), *attempt)).collect();
    assert_eq!(seconds[..5], [(0, 1), (1, 2), (3, 3), (7, 4), (15, 5)]);
    assert!(outcomes(&source).iter().all(|outcome| *outcome == Outcome::Nack { delay: Duration::ZERO }));
}

#[tokio::test(start_paused = true)]
async fn what_its_policy_nacks_whatever_happens_waits_longer_each_time_and_is_never_put_aside() {
    let (source, dead, clock) = (forgetful(), RecordingPublisher::new(), Clock::new());
    source.push(message("a"));
    let policy = FailurePolicy::nack()
        .nack_backoff(doubling())
        .max_deliveries(2)
        .classify(|_| Verdict::Nack)
        .then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(clock.clone()).add(handler)).await;
    while clock.calls().len() < 4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.stop().await.unwrap();
    let seconds: Vec<_> = clock.calls().iter().map(|(at, attempt)| (at.as_secs(), *attempt)).collect();
    assert_eq!(seconds[..4], [(0, 1), (1, 2), (3, 3), (7, 4)]);
    assert!(dead.all_published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn deliveries_that_nobody_else_counts_are_used_up_all_the_same() {
    let (source, dead, clock) = (forgetful(), RecordingPublisher::new(), Clock::new());
    source.push(message("a"));
    let policy = FailurePolicy::nack()
        .nack_backoff(doubling())
        .max_deliveries(3)
        .then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(clock.clone()).add(handler)).await;
    dead.await_published(1).await;
    running.stop().await.unwrap();
    assert_eq!(clock.calls().iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(outcomes(&source).last(), Some(&Outcome::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_until_a_held_message_may_be_nacked() {
    let (source, clock) = (forgetful(), Clock::new());
    source.push(message("a"));
    let hour = Backoff::constant(Duration::from_secs(3600));
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::nack().nack_backoff(hour));
    let running = Running::start(router().with_state(clock.clone()).add(handler)).await;
    while clock.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(outcomes(&source), []);
    running.stop().await.unwrap();
    assert!(clock.started.elapsed() < Duration::from_secs(1));
    assert_eq!(outcomes(&source), [Outcome::Nack { delay: Duration::ZERO }]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_and_lost_goes_at_once() {
    let (source, clock) = (ScriptedSubscriber::new().nack_delay(false), Clock::new());
    source.push(message("a"));
    let hour = Backoff::constant(Duration::from_secs(3600));
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::nack().nack_backoff(hour));
    let running = Running::start(router().with_state(clock.clone()).add(handler)).await;
    while clock.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    source.revoke(0);
    while running.control.handlers()[0].counts.lost == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(clock.started.elapsed(), Duration::ZERO);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_held_message_does_not_come_again_before_it() {
    let source = ScriptedSubscriber::new().nack_delay(false);
    let target = RecordingPublisher::new().keeps_order(true);
    for n in 0..3 {
        source.push(message(n));
    }
    target.hold();
    target.fail_next(1, watermill_core::error::PublishErrorKind::Unavailable);
    let handler = Handler::new("pass", |message: watermill_core::Message| async { message })
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .on_failure(FailurePolicy::nack().nack_backoff(doubling()));
    let running = Running::start(router().add(handler)).await;
    target.await_calls(3).await;
    let started = Instant::now();
    target.release();
    let settled = source.settled(3).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1), "all of them wait for the first");
    let order: Vec<_> = settled.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(order, ["0", "1", "2"]);
    assert!(settled.iter().all(|(_, outcome)| *outcome == Outcome::Nack { delay: Duration::ZERO }));
    running.stop().await.unwrap();
}
