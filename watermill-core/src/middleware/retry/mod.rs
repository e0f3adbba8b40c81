//! [`Retry`]: tries again, in place.

#[cfg(test)]
mod tests;

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

use crate::{
    Backoff, Message, Outputs,
    error::{BoxError, Classifier, Nack, Verdict, chain},
};

/// Calls the handler again when it fails, up to a number of times, with waits between.
///
/// The delivery stays where it is: nothing is published, and later messages of its ordering scope
/// wait. When the retries are used up the handler's last error is passed out as it is. It gives up at
/// once on an error that trying again cannot mend or that asks to be [nacked](Nack) (see
/// [`Verdict::of`]), and when the subscription has lost the delivery (a lease that ran out): somebody
/// else has the message then, and the error that is passed out is marked with [`Nack`].
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
    classifier: Classifier,
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
    /// [`Permanent`](crate::error::Permanent) errors.
    pub fn unlimited() -> Self {
        Self::with_limit(None)
    }

    fn with_limit(max_retries: Option<u32>) -> Self {
        let config = Config {
            max_retries,
            backoff: Backoff::default(),
            max_elapsed: None,
            classifier: Classifier::default(),
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

    /// Decides from the error, instead of [`Verdict::of`]: tries again after [`Verdict::Retry`], succeeds
    /// without outputs after [`Verdict::Ignore`], and passes on every other error. Not asked about what is
    /// marked with [`Nack`].
    #[must_use]
    pub fn classify(
        self,
        classify: impl Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.classifier = Classifier::new(classify))
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
    fn delay(&self, retries: u32, began: Option<Instant>) -> Option<Duration> {
        if self.max_retries.is_some_and(|max| retries >= max) {
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
                    let (verdict, error) = match ready!(future.poll(cx)) {
                        Ok(outputs) => return Poll::Ready(Ok(outputs)),
                        Err(error) => this.config.classifier.judge(error.into()),
                    };
                    let delay = match verdict {
                        Verdict::Retry => this.config.delay(*this.retries, *this.began),
                        Verdict::Ignore => return Poll::Ready(Ok(Outputs::none())),
                        Verdict::GiveUp | Verdict::Nack => None,
                    };
                    let Some(delay) = delay else { return Poll::Ready(Err(error)) };
                    *this.retries += 1;
                    report(this.config, this.message, *this.retries, delay, &*error);
                    Step::Waiting { wait: wait(this.message, delay), error: Some(error) }
                }
                StepProject::Waiting { wait, error } => match ready!(wait.as_mut().poll(cx)) {
                    Waited::Out => Step::Readying,
                    Waited::DeliveryLost => {
                        // The handler's own error is what went wrong here, and it is for the next owner to judge:
                        // whatever stands outside must not put the message aside.
                        let error = error.take().expect("polled again after it was ready");
                        return Poll::Ready(Err(Nack::new(error).into()));
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
