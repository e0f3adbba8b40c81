use std::sync::Mutex;

use tower::{ServiceExt, service_fn};

use super::*;
use crate::{error::Permanent, fixtures::Outcomes, middleware::Timeout};

const TWENTY_MS: Duration = Duration::from_millis(20);

/// Tells when it was called, and fails the first `failures` times.
#[derive(Clone)]
struct Flaky {
    failures: usize,
    began: Instant,
    called_at_ms: Arc<Mutex<Vec<u128>>>,
}

impl Flaky {
    fn new(failures: usize) -> Self {
        Self { failures, began: Instant::now(), called_at_ms: Arc::default() }
    }

    fn calls(&self) -> Vec<u128> {
        self.called_at_ms.lock().unwrap().clone()
    }

    async fn run(&self, layer: Retry) -> Result<Outputs, BoxError> {
        layer.layer(self.clone()).oneshot(Message::new("x")).await
    }
}

impl Service<Message> for Flaky {
    type Response = Outputs;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Outputs, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let mut calls = self.called_at_ms.lock().unwrap();
        calls.push(self.began.elapsed().as_millis());
        let n = calls.len();
        std::future::ready(if n > self.failures {
            Ok(message.into())
        } else {
            Err(format!("error {n}").into())
        })
    }
}

fn doubling() -> Backoff {
    Backoff::exponential(TWENTY_MS).jitter(0.0)
}

#[tokio::test(start_paused = true)]
async fn the_first_try_is_at_once_and_the_waits_double() {
    let flaky = Flaky::new(4);
    let outputs = flaky.run(Retry::new(5).backoff(doubling())).await.unwrap();
    assert_eq!(outputs.len(), 1);
    assert_eq!(flaky.calls(), [0, 20, 60, 140, 300]);
}

#[tokio::test(start_paused = true)]
async fn hooks_and_classification_do_not_change_the_waits_and_hear_the_real_ones() {
    // P9: in Go a hook makes the waits 20 80 320 1000, a classifier 40 160 640 1000.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let flaky = Flaky::new(4);
    let retry = Retry::new(4).backoff(doubling()).on_retry({
        let heard = heard.clone();
        move |retry, delay, error| {
            heard.lock().unwrap().push((retry, delay.as_millis(), error.to_string()));
        }
    });
    flaky.run(retry).await.unwrap();
    assert_eq!(flaky.calls(), [0, 20, 60, 140, 300]);
    let expected = [(1, 20, "error 1"), (2, 40, "error 2"), (3, 80, "error 3"), (4, 160, "error 4")];
    assert_eq!(*heard.lock().unwrap(), expected.map(|(n, ms, text)| (n, ms, text.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn waits_grow_though_only_the_first_is_set_and_stop_at_the_maximum() {
    // P10: in Go they stay constant unless a maximum is set.
    let flaky = Flaky::new(4);
    flaky.run(Retry::new(4).backoff(doubling().max(Duration::from_millis(50)))).await.unwrap();
    assert_eq!(flaky.calls(), [0, 20, 60, 110, 160]);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_retry_the_handlers_last_error_comes_out() {
    let flaky = Flaky::new(usize::MAX);
    let error = flaky.run(Retry::new(2).backoff(doubling())).await.unwrap_err();
    assert_eq!(error.to_string(), "error 3");
    assert_eq!(flaky.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn zero_retries_are_one_try() {
    // P11: a limit is a limit; Go reads -1 as infinite, here only `unlimited` is.
    let flaky = Flaky::new(usize::MAX);
    flaky.run(Retry::new(0)).await.unwrap_err();
    assert_eq!(flaky.calls().len(), 1);
    let flaky = Flaky::new(1000);
    flaky.run(Retry::unlimited()).await.unwrap();
    assert_eq!(flaky.calls().len(), 1001);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_when_the_next_wait_would_end_too_late() {
    let flaky = Flaky::new(usize::MAX);
    let retry = Retry::unlimited().backoff(doubling()).max_elapsed(Duration::from_millis(100));
    let error = flaky.run(retry).await.unwrap_err();
    assert_eq!(error.to_string(), "error 3");
    assert_eq!(flaky.calls(), [0, 20, 60]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_at_once_on_a_permanent_error() {
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    let handler = service_fn(move |_: Message| {
        *counted.lock().unwrap() += 1;
        std::future::ready(Err::<Outputs, BoxError>(Permanent::new("no such order").into()))
    });
    let error = Retry::new(5).layer(handler).oneshot(Message::new("x")).await.unwrap_err();
    assert!(error.is::<Permanent>());
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_verdict_decides_what_is_tried_again() {
    let verdicts = |second: Verdict| {
        Retry::new(5)
            .classify(move |error| if error.to_string() == "error 2" { second } else { Verdict::Retry })
    };
    let error = Flaky::new(usize::MAX).run(verdicts(Verdict::GiveUp)).await.unwrap_err();
    assert_eq!(error.to_string(), "error 2");
    let error = Flaky::new(usize::MAX).run(verdicts(Verdict::Nack)).await.unwrap_err();
    assert!(Nack::is(&*error) && error.to_string() == "error 2", "{error:?}");
    assert!(Flaky::new(usize::MAX).run(verdicts(Verdict::Ignore)).await.unwrap().is_empty());
    assert_eq!(Flaky::new(2).run(verdicts(Verdict::Retry)).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_try_under_a_timeout_starts_afresh() {
    // P12: in Go the second try starts with a context that has expired already.
    let tries = Arc::new(Mutex::new(0));
    let handler = service_fn(move |_: Message| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        let takes = Duration::from_secs(if *tries < 2 { 60 } else { 4 });
        async move {
            sleep(takes).await;
            Ok::<_, BoxError>(Outputs::none())
        }
    });
    let timeout = Timeout::new(Duration::from_secs(5));
    let retry = Retry::new(1).backoff(doubling());
    retry.layer(timeout.layer(handler)).oneshot(Message::new("x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_delivery_ends_the_wait_with_the_handlers_own_error() {
    // Go returns the context's error instead of the cause.
    let flaky = Flaky::new(usize::MAX);
    let (message, settlement) = Outcomes::default().deliver(Message::new("x")).split();
    let retry = Retry::unlimited().backoff(Backoff::constant(Duration::from_secs(3600)));
    let mut service = retry.layer(flaky.clone());
    let mut running = Box::pin(service.ready().await.unwrap().call(message.clone()));
    assert!(futures::poll!(&mut running).is_pending());
    message.delivery().unwrap().origin().revoke(|| [message.delivery().unwrap().token()]);
    let error = running.await.unwrap_err();
    assert_eq!(error.to_string(), "error 1");
    assert!(Nack::is(&*error), "another owner has the message: nothing outside puts it aside");
    assert_eq!(flaky.calls().len(), 1);
    settlement.nack();
}

#[tokio::test]
async fn the_service_that_was_found_ready_is_the_one_that_is_called() {
    /// Panics when called without having been ready, as a concurrency limit would.
    struct Strict {
        ready: bool,
    }
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false }
        }
    }
    impl Service<Message> for Strict {
        type Response = Outputs;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outputs, BoxError>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Message) -> Self::Future {
            assert!(mem::take(&mut self.ready), "called before it was ready");
            std::future::ready(Err("boom".into()))
        }
    }
    let retry = Retry::new(3).backoff(Backoff::constant(Duration::ZERO));
    let error = retry.layer(Strict { ready: false }).oneshot(Message::new("x")).await.unwrap_err();
    assert_eq!(error.to_string(), "boom");
}
