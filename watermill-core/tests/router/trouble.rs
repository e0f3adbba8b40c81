//! Trouble on the stream of a subscription.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::{
    Handler,
    decorator::OnMissed,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::Health,
};
use watermill_testkit::ScriptedSubscriber;

use crate::{Running, message, router};

async fn nothing() {}

fn error(kind: SubscribeErrorKind) -> SubscribeError {
    SubscribeError::new(kind, "in").because("the broker says no")
}

#[tokio::test(start_paused = true)]
async fn whatever_an_error_is_the_stream_is_asked_again_with_growing_waits_and_it_shows() {
    let source = ScriptedSubscriber::new();
    // Refused for good, as far as the backend knows: until somebody has changed something.
    for kind in [SubscribeErrorKind::Refused, SubscribeErrorKind::Unavailable, SubscribeErrorKind::Refused] {
        source.fail(error(kind));
    }
    source.push(message(1));
    let started = Instant::now();
    let running =
        Running::start(router().add(Handler::new("nothing", nothing).from(source.clone(), "in"))).await;
    let health = || running.control.handlers()[0].subscription.health.clone();
    while health() == Health::Healthy {
        tokio::task::yield_now().await;
    }
    assert!(matches!(health(), Health::Degraded { reason } if reason.contains("the broker says no")));
    source.settled(1).await;
    // 100, 200 and 400 ms, each up to a fifth shorter.
    assert!(started.elapsed() >= Duration::from_millis(560), "{:?}", started.elapsed());
    assert_eq!(health(), Health::Healthy, "a delivery says that it is over");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_until_the_stream_may_be_asked_again() {
    let source = ScriptedSubscriber::new();
    for _ in 0..20 {
        source.fail(error(SubscribeErrorKind::Unavailable));
    }
    let running =
        Running::start(router().add(Handler::new("nothing", nothing).from(source.clone(), "in"))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stopping = Instant::now();
    running.stop().await.unwrap();
    assert_eq!(stopping.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_without_further_errors_is_well_again() {
    let source = ScriptedSubscriber::new();
    source.fail(error(SubscribeErrorKind::Unavailable));
    let running =
        Running::start(router().add(Handler::new("nothing", nothing).from(source.clone(), "in"))).await;
    let health = || running.control.handlers()[0].subscription.health.clone();
    while health() == Health::Healthy {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(health(), Health::Healthy);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_missed_are_told_of_and_the_stream_goes_on_at_once() {
    let (source, missed) = (ScriptedSubscriber::new(), Arc::new(Mutex::new(Vec::new())));
    source.fail(error(SubscribeErrorKind::Missed));
    source.push(message(1));
    let told = missed.clone();
    let telling =
        OnMissed::new(source.clone(), move |topic: &str| told.lock().unwrap().push(topic.to_owned()));
    let started = Instant::now();
    let running = Running::start(router().add(Handler::new("nothing", nothing).from(telling, "in"))).await;
    source.settled(1).await;
    assert_eq!(*missed.lock().unwrap(), ["in"]);
    assert_eq!(started.elapsed(), Duration::ZERO, "nothing was waited for");
    assert_eq!(running.control.handlers()[0].subscription.health, Health::Healthy);
    running.stop().await.unwrap();
}
