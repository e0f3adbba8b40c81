//! Layers: their order, tower's own, and readiness as the intake valve.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tower::{
    Layer, Service,
    limit::{ConcurrencyLimitLayer, RateLimitLayer},
    timeout::TimeoutLayer,
};
use watermill_core::{
    FailurePolicy, Handler, Message, Outputs,
    delivery::Outcome,
    error::BoxError,
    router::{MessageService, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Writes its name into the log for every message.
struct Named(&'static str, Log);

struct NamedService<S>(&'static str, Log, S);

impl<S> Layer<S> for Named {
    type Service = NamedService<S>;

    fn layer(&self, inner: S) -> NamedService<S> {
        NamedService(self.0, self.1.clone(), inner)
    }
}

impl<S: Service<Message>> Service<Message> for NamedService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.2.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> S::Future {
        self.1.lock().unwrap().push(self.0);
        self.2.call(message)
    }
}

#[tokio::test]
async fn router_layers_are_outside_of_handler_layers_and_the_first_added_runs_first() {
    // P25: Go interleaves both levels by the time they were added.
    async fn nothing() {}
    let (source, log) = (ScriptedSubscriber::new(), Log::default());
    source.push(message(1));
    let named = |name| Named(name, log.clone());
    let router = router().layer(named("router 1")).layer(named("router 2")).add(
        Handler::new("nothing", nothing)
            .layer(named("handler 1"))
            .from(source.clone(), "in")
            .layer(named("handler 2")),
    );
    assert_eq!(
        router.to_string(),
        "scripted:in -> Named > Named > Named > Named > nothing (on failure: nack)\n"
    );
    let running = Running::start(router).await;
    source.settled(1).await;
    assert_eq!(*log.lock().unwrap(), ["router 1", "router 2", "handler 1", "handler 2"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_drops_a_handler_and_every_try_has_its_own_time() {
    // P12: in Go the second try starts with an expired context.
    async fn sleepy() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("a"));
    let started = tokio::time::Instant::now();
    let policy = FailurePolicy::retry(2)
        .backoff(watermill_core::Backoff::constant(Duration::ZERO))
        .then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("sleepy", sleepy)
        .from(source.clone(), "in")
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .on_failure(policy);
    let running = Running::start(router().add(handler)).await;
    source.settled(1).await;
    assert_eq!(started.elapsed().as_secs(), 15);
    assert_eq!(dead.published("dead")[0].metadata().get("reason_poisoned"), Some("request timed out"));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn towers_rate_limit_pauses_the_subscription_and_nacks_nothing() {
    async fn nothing() {}
    let source = ScriptedSubscriber::new();
    for n in 0..10 {
        source.push(message(n));
    }
    let started = tokio::time::Instant::now();
    let handler = Handler::new("nothing", nothing)
        .from(source.clone(), "in")
        .layer(RateLimitLayer::new(2, Duration::from_secs(1)));
    let running = Running::start(router().add(handler)).await;
    let settled = source.settled(10).await;
    assert_eq!(started.elapsed().as_secs(), 4, "two a second");
    assert!(settled.iter().all(|(_, outcome)| *outcome == Outcome::Ack));
    assert_eq!(source.handed_out(), 10);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn towers_concurrency_limit_bounds_what_the_router_runs() {
    async fn work() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let source = ScriptedSubscriber::new();
    for n in 0..12 {
        source.push(message(n));
    }
    let started = tokio::time::Instant::now();
    let handler = Handler::new("work", work)
        .from(source.clone(), "in")
        .concurrency(12)
        .layer(ConcurrencyLimitLayer::new(3));
    let running = Running::start(router().add(handler)).await;
    source.settled(12).await;
    assert_eq!(started.elapsed().as_millis(), 40, "three at a time");
    assert!(source.outstanding_max() <= 3, "what cannot run is not taken");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn towers_builder_composes_layers_for_a_router() {
    async fn nothing() {}
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    let layers = tower::ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(ConcurrencyLimitLayer::new(1))
        .into_inner();
    let running = Running::start(
        router().layer(layers).add(Handler::new("nothing", nothing).from(source.clone(), "in")),
    )
    .await;
    assert_eq!(source.settled(1).await, [("1".into(), Outcome::Ack)]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_broken_for_good_ends_its_handler_with_the_reason() {
    #[derive(Clone)]
    struct Broken;
    impl Service<Message> for Broken {
        type Response = Outputs;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outputs, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("the buffer's worker is gone".into()))
        }

        fn call(&mut self, _: Message) -> Self::Future {
            unreachable!("never ready")
        }
    }
    fn fits(_: &impl MessageService) {}
    fits(&Broken);
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    let error =
        router().add(Handler::service("broken", Broken).from(source.clone(), "in")).run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("the buffer's worker is gone"), "{error}");
    assert_eq!(source.handed_out(), 0, "nothing was taken that could not be handled");
}

#[tokio::test]
async fn a_layer_that_panics_when_asked_whether_it_is_ready_ends_its_handler_with_the_reason() {
    struct Panicking;
    impl Service<Message> for Panicking {
        type Response = Outputs;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outputs, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            panic!("the limiter's clock went backwards")
        }

        fn call(&mut self, _: Message) -> Self::Future {
            unreachable!("never ready")
        }
    }
    let source = ScriptedSubscriber::new();
    let error = router()
        .add(Handler::service("panicking", Panicking).from(source.clone(), "in"))
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("the limiter's clock went backwards"), "{error}");
    assert_eq!(error.report().handlers.len(), 1);
}
