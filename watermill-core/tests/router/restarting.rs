//! Handlers that end although nobody asked them to, and are started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service, service_fn};
use watermill_core::{
    Backoff, Handler, Message, Outputs, Router, Subscriber,
    error::{BoxError, SubscribeErrorKind},
    router::{Ended, MessageService, RestartPolicy, RouterConfig, RunErrorKind},
    subscription::Health,
};
use watermill_testkit::ScriptedSubscriber;

use crate::{Running, message, router};

async fn nothing() {}

/// Waits of 10 s, three tries in a row.
fn restarting() -> Router {
    let policy = RestartPolicy::default().backoff(Backoff::constant(Duration::from_secs(10))).limit(3);
    router().with_config(RouterConfig::default().restart(policy))
}

/// A script whose stream ends `times` times, after one message each.
fn ends(times: u32) -> ScriptedSubscriber {
    let source = ScriptedSubscriber::new();
    for number in 0..times {
        source.push(message(number));
    }
    source.end();
    source
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_subscription_ended_is_started_again_and_given_up_after_some_tries_in_a_row() {
    let (dying, living) = (ends(1), ScriptedSubscriber::new());
    let router = restarting()
        .add(Handler::new("dying", nothing).from(dying.clone(), "in"))
        .add(Handler::new("living", nothing).from(living.clone(), "in"));
    let control = router.control();
    let began = Instant::now();
    let running = Running::start(router).await;
    dying.settled(1).await;
    while control.handlers().len() > 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((30..=32).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(dying.subscribe_calls(), 4);
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    let report = error.report().handler("dying").unwrap();
    assert_eq!((report.restarts, report.counts.acked), (3, 1), "{report}");
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_its_status_says_so_and_a_stop_is_no_failure() {
    let router = restarting().add(Handler::new("dying", nothing).from(ends(0), "in"));
    let control = router.control();
    let running = Running::start(router).await;
    let health = loop {
        match control.handler("dying").unwrap().subscription.health {
            Health::Degraded { reason } if reason.starts_with("restarting in 10.0 s: ") => break reason,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(health.contains("the subscription ended"), "{health}");
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("dying").unwrap().ended, Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_cannot_be_reached_no_try_is_counted() {
    let source = ends(0);
    let router = restarting().add(Handler::new("patient", nothing).from(source.clone(), "in"));
    let control = router.control();
    let running = Running::start(router).await;
    source.fail_subscribe(20, SubscribeErrorKind::Unavailable);
    while source.subscribe_calls() < 22 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(control.handler("patient").unwrap().restarts, 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_subscriber_was_closed_is_not_started_again() {
    let source = ScriptedSubscriber::new();
    let router = restarting().add(Handler::new("only", nothing).from(source.clone(), "in"));
    let running = Running::start(router).await;
    source.close().await.unwrap();
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::HandlersFailed);
    assert!(error.to_string().contains("the subscriber is closed"), "{error}");
    assert_eq!(error.report().handler("only").unwrap().restarts, 1, "asked once, and never again");
}

/// A layer whose service is broken after one message, and counts how many services were made.
#[derive(Clone, Default)]
struct Brittle(Arc<AtomicUsize>);

struct BrittleService<S> {
    inner: S,
    broken: bool,
}

impl<S> Layer<S> for Brittle {
    type Service = BrittleService<S>;

    fn layer(&self, inner: S) -> BrittleService<S> {
        self.0.fetch_add(1, Ordering::Relaxed);
        BrittleService { inner, broken: false }
    }
}

impl<S: MessageService> Service<Message> for BrittleService<S> {
    type Response = Outputs;
    type Error = BoxError;
    type Future = futures::future::ErrInto<S::Future, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.broken {
            Poll::Ready(Err("it broke".into()))
        } else {
            self.inner.poll_ready(cx).map_err(Into::into)
        }
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.broken = true;
        futures::TryFutureExt::err_into(self.inner.call(message))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_broke_is_made_anew_of_the_handlers_function_and_layers() {
    let (source, brittle) = (ScriptedSubscriber::new(), Brittle::default());
    for number in 0..3 {
        source.push(message(number));
    }
    let handler = Handler::new("brittle", nothing).layer(brittle.clone()).from(source.clone(), "in");
    let running = Running::start(restarting().add(handler)).await;
    source.settled(3).await;
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("brittle").unwrap().counts.acked, 3, "the counts go on");
    assert!(brittle.0.load(Ordering::Relaxed) >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_ready_made_service_that_broke_ends_its_handler_and_says_why() {
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    let ready = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
    let handler = Handler::service("ready", Brittle::default().layer(ready)).from(source.clone(), "in");
    let error = restarting().add(handler).run().await.unwrap_err();
    assert!(error.to_string().contains("it broke; its service cannot be made again"), "{error}");
}
