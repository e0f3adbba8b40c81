//! The end: who closes what, by when, and what is left behind.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::Instant;
use watermill_core::{
    Handler, Message, Publisher, Subscriber,
    error::SubscribeErrorKind,
    router::{Phase, Router, RouterConfig, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{
    Running,
    doubles::{Log, Noting, Sink, Slow},
    message, router,
};

const DEADLINE: Duration = Duration::from_secs(3);

async fn nothing() {}

async fn pass(message: Message) -> Message {
    message
}

fn in_time() -> Router {
    router().with_config(RouterConfig::default().drain_deadline(DEADLINE))
}

#[tokio::test]
async fn two_routers_share_a_publisher_and_only_the_one_that_was_asked_to_closes_it() {
    let (first, second, target) =
        (ScriptedSubscriber::new(), ScriptedSubscriber::new(), RecordingPublisher::new());
    let pass = |source: &ScriptedSubscriber| {
        Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out")
    };
    let owner = router().add(pass(&second)).close_publisher_on_stop(target.clone());
    let owner = Running::start(owner.close_subscriber_on_stop(second.clone())).await;
    Running::start(router().add(pass(&first))).await.stop().await.unwrap();
    assert!(!target.is_closed() && !first.is_closed());

    second.push(message(1));
    second.settled(1).await;
    owner.stop().await.unwrap();
    assert!(target.is_closed() && second.is_closed());
}

#[tokio::test]
async fn what_a_router_was_asked_to_close_is_closed_in_order_after_the_last_handler() {
    let (source, log) = (ScriptedSubscriber::new(), Log::default());
    let sink = |name| Sink { name, log: log.clone(), ..Sink::default() };
    let plugin = Noting { name: "plugin", log: log.clone(), ..Noting::default() };
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to(sink("unasked"), "out");
    let router = router().add(handler).plugin(plugin);
    let router = router.close_publisher_on_stop(sink("first")).close_publisher_on_stop(sink("second"));
    Running::start(router).await.stop().await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["plugin started", "first closed", "second closed", "plugin stopped"]);
    assert_eq!(source.closed(), 1);
}

#[tokio::test]
async fn handlers_that_come_and_go_leave_nothing_behind() {
    let target: Arc<dyn Publisher> = Arc::new(RecordingPublisher::new());
    let router = router();
    let handle = router.handle();
    let running = Running::start(router).await;
    for _ in 0..100 {
        let source = ScriptedSubscriber::new();
        let handler = Handler::new("visitor", pass).from(source, "in").to(target.clone(), "out");
        handle.add(handler).await.unwrap();
        handle.stop_handler("visitor").await.unwrap();
    }
    while Arc::strong_count(&target) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(handle.handlers().is_empty());
    assert_eq!(running.stop().await.unwrap().handlers.len(), 100);
}

/// Lets a router drain, and says how long it took on the paused clock and what it did not finish.
async fn abandoned(router: Router, ready: impl Future<Output = ()>) -> (Duration, String) {
    let running = Running::start(router).await;
    ready.await;
    let stopped = Instant::now();
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Abandoned, "{error}");
    (stopped.elapsed(), error.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_never_closes_is_abandoned_at_the_deadline() {
    let stuck = Sink { never_closes: true, ..Sink::default() };
    let (took, error) = abandoned(in_time().close_publisher_on_stop(stuck), async {}).await;
    assert_eq!((took, &*error), (DEADLINE, "drain the router in time: closing a publisher (sink)"));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_never_stops_is_abandoned_at_the_deadline() {
    let stuck = Noting { never_stops: true, ..Noting::default() };
    let (took, error) = abandoned(in_time().plugin(stuck), async {}).await;
    assert_eq!((took, &*error), (DEADLINE, "drain the router in time: stopping plugin Noting"));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_never_closes_is_abandoned_at_the_deadline() {
    let stuck = Slow { never_closes: true, ..Slow::default() };
    let router = in_time().add(Handler::new("bill", nothing).from(stuck, "orders"));
    let (took, error) = abandoned(router, async {}).await;
    assert_eq!(took, DEADLINE);
    assert!(error.contains("closing the subscription of handler \"bill\" (scripted:orders)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn everything_that_never_ends_has_one_deadline_together_and_is_named() {
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    let router = in_time()
        .plugin(Noting { never_stops: true, ..Noting::default() })
        .add(Handler::new("forever", pending::<()>).from(source.clone(), "in"))
        .close_publisher_on_stop(Sink { never_closes: true, ..Sink::default() });
    let (took, error) = abandoned(router, source.await_handed_out(1)).await;
    assert_eq!(took, DEADLINE);
    for what in ["handler \"forever\": 1 received", "closing a publisher", "stopping plugin"] {
        assert!(error.contains(what), "{error}");
    }
}

#[tokio::test]
async fn plugins_that_started_are_stopped_when_the_start_fails_the_last_one_first() {
    let log = Log::default();
    let plugin = |name, refuses| Noting { name, log: log.clone(), refuses, ..Noting::default() };
    let failing =
        router().plugin(plugin("one", false)).plugin(plugin("two", false)).plugin(plugin("three", true));
    assert_eq!(failing.run().await.unwrap_err().kind(), RunErrorKind::Plugin);
    assert_eq!(*log.lock().unwrap(), ["one started", "two started", "two stopped", "one stopped"]);

    log.lock().unwrap().clear();
    let source = ScriptedSubscriber::new();
    source.fail_subscribe(1, SubscribeErrorKind::Topic);
    let failing = router().plugin(plugin("one", false)).add(Handler::new("bad", nothing).from(source, "in"));
    assert_eq!(failing.run().await.unwrap_err().kind(), RunErrorKind::Start);
    assert_eq!(*log.lock().unwrap(), ["one started", "one stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_asked_to_stop_and_goes_on_is_given_up_at_the_deadline() {
    struct Starting;
    #[async_trait::async_trait]
    impl watermill_core::router::Plugin for Starting {
        async fn on_start(
            &self,
            _: &watermill_core::router::RouterControl,
        ) -> Result<(), watermill_core::error::BoxError> {
            pending().await
        }
    }
    let router = in_time().plugin(Starting);
    let control = router.control();
    let began = Instant::now();
    let error = router.run_until(async {}).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (RunErrorKind::Abandoned, DEADLINE));
    assert_eq!(control.phase(), Phase::Ended);
}

#[tokio::test]
async fn a_router_that_could_not_start_still_closes_what_it_was_asked_to() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.close().await.unwrap();
    let router = router().close_publisher_on_stop(target.clone());
    let error = router.add(Handler::new("late", nothing).from(source, "in")).run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Start);
    assert!(target.is_closed());
}
