//! Start, stop, drain, abort, and what changes while a router runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use tokio::sync::Notify;
use watermill_core::{
    Handler, Message, Router, State,
    delivery::Outcome,
    error::{SubscribeError, SubscribeErrorKind},
    router::{Ended, Phase, RestartPolicy, RouterConfig, RouterControl, RunErrorKind, StartPolicy},
};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, ids, message, router};

async fn nothing() {}

async fn pass(message: Message) -> Message {
    message
}

async fn wait(State(go): State<Arc<Notify>>, message: Message) -> Message {
    go.notified().await;
    message
}

#[tokio::test]
async fn a_handler_in_flight_finishes_publishes_and_acks_before_the_router_returns() {
    // P16: Go closes the publisher under the handler and nacks what it did.
    let (source, target, go) =
        (ScriptedSubscriber::new(), RecordingPublisher::new(), Arc::new(Notify::new()));
    source.push(message("a"));
    source.push(message("b"));
    let handler = Handler::new("wait", wait).from(source.clone(), "in").to(target.clone(), "out").pipeline(0);
    let router = router().close_publisher_on_stop(target.clone()).with_state(go.clone()).add(handler);
    let running = Running::start(router).await;
    source.await_handed_out(1).await;
    running.control.stop();
    source.await_stopped(1).await;
    assert!(!target.is_closed());
    go.notify_one();
    let report = running.stop().await.unwrap();
    assert_eq!(ids(&target.published("out")), ["a"]);
    assert_eq!(source.outcomes(), [("a".into(), Outcome::Ack)], "acked, and nothing more was taken");
    assert!(target.is_closed() && source.closed() == 1);
    assert_eq!(report.handler("wait").unwrap().ended, Ended::Stopped);
}

/// A router that a handler may stop, once it is known.
type Itself = Arc<OnceLock<RouterControl>>;

#[tokio::test]
async fn what_has_not_begun_when_a_handler_stops_its_router_does_not_begin() {
    async fn stop(State(router): State<Itself>) {
        router.get().unwrap().stop();
    }
    // All is ready at once, so that the worker could go on with the next message in the same poll.
    for scopes in 1..=2 {
        let (source, itself) = (ScriptedSubscriber::new(), Itself::default());
        for id in ["a", "b", "c"] {
            source.push(message(id));
        }
        let handler = Handler::new("stop", stop).from(source.clone(), "in").scopes(scopes);
        let router = router().with_state(itself.clone()).add(handler);
        itself.set(router.control()).unwrap();
        let report = router.run().await.unwrap();
        assert_eq!(report.handler("stop").unwrap().counts.received, 1);
        assert_eq!(source.outcomes(), [("a".into(), Outcome::Ack)]);
    }
}

#[tokio::test]
async fn what_has_not_begun_when_a_handler_stops_itself_does_not_begin() {
    async fn stop(State(router): State<Itself>) {
        // It asks, and does not wait for an end that would wait for this.
        assert!(router.get().unwrap().stop_handler("stop").now_or_never().is_none());
    }
    let (source, itself) = (ScriptedSubscriber::new(), Itself::default());
    source.push(message("a"));
    source.push(message("b"));
    let router =
        router().with_state(itself.clone()).add(Handler::new("stop", stop).from(source.clone(), "in"));
    itself.set(router.control()).unwrap();
    let report = router.run_until(source.await_stopped(1)).await.unwrap();
    assert_eq!(report.handler("stop").unwrap().counts.received, 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_by_the_deadline_is_abandoned_and_named() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("a"));
    let handler = Handler::new("wait", wait).from(source.clone(), "in").to(target, "out");
    let config = RouterConfig::default().drain_deadline(Duration::from_secs(3));
    let running =
        Running::start(router().with_state(Arc::new(Notify::new())).with_config(config).add(handler)).await;
    source.await_handed_out(1).await;
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Abandoned);
    assert_eq!(error.report().handler("wait").unwrap().counts.in_flight, 1);
    assert!(error.to_string().contains("1 in flight"), "{error}");
    assert_eq!(source.outcomes(), [("a".into(), Outcome::Nack { delay: Duration::ZERO })], "it comes again");
}

#[tokio::test]
async fn an_abort_does_not_wait() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("a"));
    let handler = Handler::new("wait", wait).from(source.clone(), "in").to(target, "out");
    let running = Running::start(router().with_state(Arc::new(Notify::new())).add(handler)).await;
    source.await_handed_out(1).await;
    running.control.abort();
    assert_eq!(running.task.await.unwrap().unwrap_err().kind(), RunErrorKind::Abandoned);
}

#[tokio::test]
async fn a_router_that_was_stopped_before_it_ran_returns_at_once() {
    // P13: Go blocks for the whole close timeout.
    let source = ScriptedSubscriber::new();
    let router = router().add(Handler::new("nothing", nothing).from(source.clone(), "in"));
    router.control().stop();
    router.run().await.unwrap();
    assert_eq!(source.handed_out(), 0);
}

#[tokio::test]
async fn a_router_without_handlers_stops_when_asked() {
    // P15: Go stays blocked.
    Router::new().run_until(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn one_failing_subscribe_rolls_the_start_back_and_names_the_handler() {
    // P14: Go is left neither running nor closed.
    let (good, bad) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    good.push(message("a"));
    bad.fail_subscribe(1, SubscribeErrorKind::Topic);
    let router = router()
        .add(Handler::new("good", nothing).from(good.clone(), "in"))
        .add(Handler::new("bad", nothing).from(bad, "missing"));
    let control = router.control();
    let error = router.run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Start);
    assert!(error.to_string().contains("\"bad\""), "{error}");
    assert_eq!(control.phase(), Phase::Ended);
    assert_eq!(good.handed_out(), 0, "nothing is handled before all have subscribed");
    assert_eq!(good.outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_a_retrying_start_the_others_run_while_one_keeps_trying() {
    let (good, late) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    late.fail_subscribe(3, SubscribeErrorKind::Unavailable);
    good.push(message("a"));
    late.push(message("b"));
    let config = RouterConfig::default().start(StartPolicy::Retry(watermill_core::Backoff::default()));
    let running = Running::start(
        router()
            .with_config(config)
            .add(Handler::new("good", nothing).from(good.clone(), "in"))
            .add(Handler::new("late", nothing).from(late.clone(), "in")),
    )
    .await;
    good.settled(1).await;
    late.settled(1).await;
    assert_eq!(late.subscribe_calls(), 4);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn one_handler_can_be_stopped_and_its_name_used_again_with_nothing_inherited() {
    // P18: in Go the others fail on the closed publisher. P19: a new one inherits the old middleware.
    let (one, two, target) =
        (ScriptedSubscriber::new(), ScriptedSubscriber::new(), RecordingPublisher::new());
    let target = Arc::new(target);
    let router = router()
        .add(Handler::new("one", pass).from(one.clone(), "in").to(target.clone(), "out"))
        .add(Handler::new("two", pass).from(two.clone(), "in").to(target.clone(), "out"));
    let handle = router.handle();
    let running = Running::start(router).await;
    one.push(message(1));
    one.settled(1).await;
    let report = handle.stop_handler("one").await.unwrap();
    assert_eq!((report.counts.acked, &report.ended), (1, &Ended::Stopped));
    assert!(!target.is_closed());
    two.push(message(2));
    assert_eq!(two.settled(1).await, [("2".into(), Outcome::Ack)]);

    let again = ScriptedSubscriber::new();
    again.push(message(3));
    handle.add(Handler::new("one", nothing).from(again.clone(), "in")).await.unwrap();
    assert_eq!(again.settled(1).await, [("3".into(), Outcome::Ack)]);
    let chains: Vec<_> = handle.handlers().into_iter().map(|status| status.chain).collect();
    assert_eq!(chains, ["one", "two"]);

    let taken = handle.add(Handler::new("two", nothing).from(ScriptedSubscriber::new(), "in")).await;
    assert_eq!(taken.unwrap_err().kind(), RunErrorKind::Build);
    assert_eq!(handle.stop_handler("nobody").await.unwrap_err().kind(), RunErrorKind::NotRunning);
    running.stop().await.unwrap();
    let late = handle.add(Handler::new("late", nothing).from(ScriptedSubscriber::new(), "in")).await;
    assert_eq!(late.unwrap_err().kind(), RunErrorKind::NotRunning);
}

#[tokio::test]
async fn a_handler_whose_subscription_ends_is_named_while_the_others_go_on() {
    let (dying, living) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    dying.fail(SubscribeError::new(SubscribeErrorKind::Refused, "in").because("permission was revoked"));
    dying.end();
    let running = Running::start(
        router()
            .with_config(RouterConfig::default().restart(RestartPolicy::never()))
            .add(Handler::new("dying", nothing).from(dying, "in"))
            .add(Handler::new("living", nothing).from(living.clone(), "in")),
    )
    .await;
    while running.control.handlers().len() > 1 {
        tokio::task::yield_now().await;
    }
    living.push(message(1));
    living.settled(1).await;
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(
        error.to_string().contains("dying: ") && error.to_string().contains("permission was revoked"),
        "{error}"
    );
    assert_eq!(error.report().handler("living").unwrap().counts.acked, 1);
}

#[tokio::test]
async fn when_every_handler_has_failed_the_router_returns_their_names() {
    let source = ScriptedSubscriber::new();
    source.end();
    let config = RouterConfig::default().restart(RestartPolicy::never());
    let router = router().with_config(config).add(Handler::new("only", nothing).from(source, "in"));
    let error = router.run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("only"), "{error}");
}

#[tokio::test]
async fn a_handler_whose_publisher_was_closed_ends_and_gives_its_messages_back() {
    // P18: in Go it goes on failing as fast as it can.
    let (source, target) = (ScriptedSubscriber::new(), Arc::new(RecordingPublisher::new()));
    source.push(message(1));
    source.push(message(2));
    watermill_core::Publisher::close(&*target).await.unwrap();
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to(target, "out");
    let error = router().add(handler).run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("the publisher is closed"), "{error}");
    assert!(source.outcomes().iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })));
    assert_eq!(source.handed_out(), 1, "nothing more was taken");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_ends_by_itself_does_not_wait_for_retries() {
    async fn fail() -> Result<(), &'static str> {
        Err("no")
    }
    let source = ScriptedSubscriber::new();
    source.push(ScriptedDelivery::new(message(1)).scope(1));
    source.push(ScriptedDelivery::new(message(2)).scope(2));
    source.end();
    let hour = watermill_core::Backoff::constant(Duration::from_secs(3600));
    let policy = watermill_core::FailurePolicy::retry(1).backoff(hour);
    let started = tokio::time::Instant::now();
    let router = router()
        .with_config(RouterConfig::default().restart(RestartPolicy::never()))
        .add(Handler::new("fail", fail).from(source, "in").on_failure(policy));
    assert_eq!(router.run().await.unwrap_err().kind(), RunErrorKind::HandlersFailed);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_error_that_can_pass_does_not_end_the_subscription() {
    let source = ScriptedSubscriber::new();
    source.fail(SubscribeError::new(SubscribeErrorKind::Unavailable, "in"));
    source.push(message(1));
    let running =
        Running::start(router().add(Handler::new("nothing", nothing).from(source.clone(), "in"))).await;
    assert_eq!(source.settled(1).await, [("1".into(), Outcome::Ack)]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_phase_can_be_read_while_the_router_drains() {
    // P17: in Go `IsClosed` blocks until the end.
    let (source, target, go) =
        (ScriptedSubscriber::new(), RecordingPublisher::new(), Arc::new(Notify::new()));
    source.push(message("a"));
    let handler = Handler::new("wait", wait).from(source.clone(), "in").to(target, "out");
    let running = Running::start(router().with_state(go.clone()).add(handler)).await;
    source.await_handed_out(1).await;
    running.control.stop();
    running.control.reached(Phase::Draining).await;
    assert_eq!(running.control.phase(), Phase::Draining);
    go.notify_one();
    running.control.reached(Phase::Ended).await;
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_a_running_router_gives_everything_back() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    async fn forever() {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        let _guard = Guard;
        std::future::pending::<()>().await;
    }
    for lanes in [1, 4] {
        let source = ScriptedSubscriber::new();
        for n in 0..4 {
            source.push(message(n));
        }
        let handler = Handler::new("forever", forever).from(source.clone(), "in").concurrency(lanes);
        let running = Running::start(router().add(handler)).await;
        source.await_handed_out(lanes).await;
        while ALIVE.load(Ordering::SeqCst) < lanes {
            tokio::task::yield_now().await;
        }
        running.task.abort();
        assert!(running.task.await.unwrap_err().is_cancelled());
        let nacked = source.settled(lanes).await;
        assert!(nacked.iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })), "{nacked:?}");
        while ALIVE.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
