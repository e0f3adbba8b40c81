//! [`Retry`]: tries again, in place.

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use super::ErrorPredicate;
use crate::{
    Backoff, Message, Outputs,
    error::{BoxError, Permanent, chain},
};

/// Calls the handler again when it fails, up to a number of times, with waits between.
///
/// The delivery stays where it is: nothing is published, and later messages of its ordering scope
/// wait. When the retries are used up the handler's last error is passed out as it is. It gives up at
/// once on a [`Permanent`] error, and when the subscription has lost the delivery (a lease that ran
/// out): somebody else has the message then.
///
/// Every try gets a fresh copy of the message and of whatever the layers inside make for it; a
/// [`Timeout`](super::Timeout) inside gives each try its whole time. The services inside have to be
/// `Clone`, as under tower's own retry, and share what they count. Each message costs a clone of
/// those services and of its metadata; only a wait allocates more.
///
/// For handlers of a router, [`FailurePolicy`](crate::FailurePolicy) says all this and what comes
/// after the last try in one place.
///
/// ```
/// use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Backoff, Message, Outputs, error::BoxError, middleware::Retry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// static TRIES: AtomicU32 = AtomicU32::new(0);
/// let flaky = service_fn(async |_: Message| match TRIES.fetch_add(1, Ordering::Relaxed) {
///     0 | 1 => Err(BoxError::from("the line is bad")),
///     _ => Ok(Outputs::none()),
/// });
/// let retry = Retry::new(5).backoff(Backoff::exponential(Duration::from_millis(1)));
/// retry.layer(flaky).oneshot(Message::new("x")).await?;
/// assert_eq!(TRIES.load(Ordering::Relaxed), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Retry {
    config: Arc<Config>,
}

#[derive(Clone)]
struct Config {
    /// `None` for no limit.
    max_retries: Option<u32>,
    backoff: Backoff,
    max_elapsed: Option<Duration>,
    retryable: Option<ErrorPredicate>,
    on_retry: Option<Arc<OnRetry>>,
}

type OnRetry = dyn Fn(u32, Duration, &(dyn Error + 'static)) + Send + Sync;

impl Retry {
    /// Tries up to `max_retries` times more after the first try; 0 is no retry at all.
    pub fn new(max_retries: u32) -> Self {
        Self::with_limit(Some(max_retries))
    }

    /// Tries until it works, or until [`max_elapsed`](Self::max_elapsed) where that is set. One bad
    /// message then holds up its ordering scope for as long: see that bad ones are
    /// [`Permanent`] errors.
    pub fn unlimited() -> Self {
        Self::with_limit(None)
    }

    fn with_limit(max_retries: Option<u32>) -> Self {
        let config = Config {
            max_retries,
            backoff: Backoff::default(),
            max_elapsed: None,
            retryable: None,
            on_retry: None,
        };
        Self { config: Arc::new(config) }
    }

    /// Sets the waits. They begin with [`Backoff::default`].
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|config| config.backoff = backoff)
    }

    /// Gives up when the time since the first try began and the next wait together are more than
    /// this. A try that is running is not interrupted.
    #[must_use]
    pub fn max_elapsed(self, max_elapsed: Duration) -> Self {
        self.with(|config| config.max_elapsed = Some(max_elapsed))
    }

    /// Tries again only after errors for which `retryable` returns true. A [`Permanent`] error is
    /// never tried again.
    #[must_use]
    pub fn classify(
        self,
        retryable: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.retryable = Some(ErrorPredicate::new(retryable)))
    }

    /// Calls `hook` before each wait, with the number of the retry that follows (from 1), the wait,
    /// and the error that makes it necessary.
    #[must_use]
    pub fn on_retry(
        self,
        hook: impl Fn(u32, Duration, &(dyn Error + 'static)) + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.on_retry = Some(Arc::new(hook)))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("max_retries", &self.max_retries)
            .field("backoff", &self.backoff)
            .field("max_elapsed", &self.max_elapsed)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// How long to wait before the next try, if there is one after `retries` retries.
    fn delay(&self, error: &(dyn Error + 'static), retries: u32, began: Option<Instant>) -> Option<Duration> {
        let used_up = self.max_retries.is_some_and(|max| retries >= max);
        let hopeless = Permanent::is(error) || self.retryable.as_ref().is_some_and(|is| !is.matches(error));
        if used_up || hopeless {
            return None;
        }
        let delay = self.backoff.delay(retries);
        let too_late = match (self.max_elapsed, began) {
            (Some(max), Some(began)) => began.elapsed().saturating_add(delay) > max,
            _ => false,
        };
        (!too_late).then_some(delay)
    }
}

impl<S> Layer<S> for Retry {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner, config: self.config.clone() }
    }
}

/// The service that [`Retry`] makes.
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Service<Message> for RetryService<S>
where
    S: Service<Message, Response = Outputs> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = RetryFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        // The service that was found ready is the one to call; its clone may not be ready.
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let began = self.config.max_elapsed.map(|_| Instant::now());
        let future = service.call(message.clone());
        RetryFuture {
            service,
            message,
            config: self.config.clone(),
            retries: 0,
            began,
            step: Step::Calling { future },
        }
    }
}

pin_project! {
    /// A handler's future, and those of its further tries.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S: Service<Message>> {
        service: S,
        message: Message,
        config: Arc<Config>,
        retries: u32,
        began: Option<Instant>,
        #[pin]
        step: Step<S::Future>,
    }
}

pin_project! {
    #[project = StepProject]
    enum Step<F> {
        Calling { #[pin] future: F },
        Waiting { wait: BoxFuture<'static, Waited>, error: Option<BoxError> },
        Readying,
    }
}

/// How a wait ended.
enum Waited {
    Out,
    DeliveryLost,
}

impl<S> Future for RetryFuture<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProject::Calling { future } => {
                    let error = match ready!(future.poll(cx)) {
                        Ok(outputs) => return Poll::Ready(Ok(outputs)),
                        Err(error) => error.into(),
                    };
                    let Some(delay) = this.config.delay(&*error, *this.retries, *this.began) else {
                        return Poll::Ready(Err(error));
                    };
                    *this.retries += 1;
                    report(this.config, this.message, *this.retries, delay, &*error);
                    Step::Waiting { wait: wait(this.message, delay), error: Some(error) }
                }
                StepProject::Waiting { wait, error } => match ready!(wait.as_mut().poll(cx)) {
                    Waited::Out => Step::Readying,
                    Waited::DeliveryLost => {
                        // The handler's own error: that is what went wrong here.
                        return Poll::Ready(Err(error.take().expect("polled again after it was ready")));
                    }
                },
                StepProject::Readying => {
                    ready!(this.service.poll_ready(cx)).map_err(Into::into)?;
                    Step::Calling { future: this.service.call(this.message.clone()) }
                }
            };
            this.step.set(next);
        }
    }
}

fn wait(message: &Message, delay: Duration) -> BoxFuture<'static, Waited> {
    let sleep = sleep(delay);
    let lost = message.delivery().map(|delivery| delivery.cancellation());
    Box::pin(async move {
        let Some(lost) = lost else {
            sleep.await;
            return Waited::Out;
        };
        tokio::select! {
            biased;
            () = lost.cancelled() => Waited::DeliveryLost,
            () = sleep => Waited::Out,
        }
    })
}

fn report(config: &Config, message: &Message, retry: u32, delay: Duration, error: &(dyn Error + 'static)) {
    tracing::warn!(
        message_id = %message.id(),
        handler = message.handler().map(|handler| handler.name.as_str()),
        retry,
        max_retries = config.max_retries,
        ?delay,
        error = %chain(error),
        "handling failed, trying again"
    );
    if let Some(hook) = &config.on_retry {
        hook(retry, delay, error);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{fixtures::Outcomes, middleware::Timeout};

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
        let retry = Retry::new(4).backoff(doubling()).classify(|_| true).on_retry({
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
        let retry = Retry::new(5).classify(|_| true);
        let error = retry.layer(handler).oneshot(Message::new("x")).await.unwrap_err();
        assert!(error.is::<Permanent>());
        assert_eq!(*calls.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_the_classifier_refuses_are_not_tried_again() {
        let flaky = Flaky::new(usize::MAX);
        let retry = Retry::new(5).classify(|error| error.to_string() != "error 2");
        assert_eq!(flaky.run(retry).await.unwrap_err().to_string(), "error 2");
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
        message.delivery().unwrap().origin().revoke(|_| true);
        assert_eq!(running.await.unwrap_err().to_string(), "error 1");
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
}
