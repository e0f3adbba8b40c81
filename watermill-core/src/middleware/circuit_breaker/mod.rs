//! [`CircuitBreaker`]: leaves a dependency alone that fails all the time.

mod state;

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{sync::futures::OwnedNotified, time::Sleep};
use tower::{Layer, Service};

pub use self::state::BreakerState;
use self::state::{Breaker, Entry, Rules, Ticket};
use crate::{
    Message, Outputs,
    error::{BoxError, Classifier, Verdict},
};

/// Stops taking messages after a number of failures in a row, and looks again some time later.
///
/// It pauses the intake: while the breaker is open, the handler takes no message from its
/// subscription. Messages wait in the backend; none is nacked for it. When the time is over, one
/// message goes through at once as a probe: if it is handled the breaker closes, if it fails the
/// breaker opens again. A message that had been taken already when the breaker opened is handled.
///
/// Errors count that trying again may mend ([`Verdict::Retry`]); others speak of the message and not of
/// the world, or of what ends by itself. See [`classify`](Self::classify). An error that does not count
/// changes nothing, and the next message probes again.
///
/// Each handler that the layer is put around has a breaker of its own, so one broken handler does not
/// stop the others; [`shared`](Self::shared) makes it one for all, for handlers that call the same
/// thing. Put it outside of [`Retry`](super::Retry) to count messages, inside to count tries: inside,
/// an open breaker makes the retry wait.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::CircuitBreaker};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// let breaker = CircuitBreaker::new(5, Duration::from_secs(30))
///     .on_change(|state| println!("the billing breaker is {state:?}"));
/// breaker.layer(handler).oneshot(Message::new("x")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CircuitBreaker {
    rules: Rules,
    shared: Option<Arc<Breaker>>,
}

impl CircuitBreaker {
    /// Opens after `failures` messages in a row have failed (zero counts as one), for `open_for`.
    pub fn new(failures: u32, open_for: Duration) -> Self {
        let rules = Rules {
            failures_max: failures.max(1),
            // Within what an `Instant` can be moved by: a century is for ever.
            open_for: open_for.min(Duration::from_hours(100 * 365 * 24)),
            classifier: Classifier::default(),
            on_change: None,
        };
        Self { rules, shared: None }
    }

    /// Decides from the error, instead of [`Verdict::of`]: what is to be tried again counts as a failure,
    /// nothing else does. The error is passed on as it is, whatever the verdict.
    #[must_use]
    pub fn classify(
        self,
        classify: impl Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.with(|rules| rules.classifier = Classifier::new(classify))
    }

    /// Calls `hook` with every new state, for a gauge or an alarm. It must not block.
    #[must_use]
    pub fn on_change(self, hook: impl Fn(BreakerState) + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.on_change = Some(Arc::new(hook)))
    }

    /// Makes all handlers that this layer, or a clone of it, is put around share one breaker. While
    /// it probes, each of them may have one message of its own in progress.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = Some(Breaker::new(self.rules.clone()));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        if self.shared.is_some() { self.shared() } else { self }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("failures", &self.rules.failures_max)
            .field("open_for", &self.rules.open_for)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CircuitBreaker {
    type Service = CircuitBreakerService<S>;

    fn layer(&self, inner: S) -> CircuitBreakerService<S> {
        let breaker = self.shared.clone().unwrap_or_else(|| Breaker::new(self.rules.clone()));
        CircuitBreakerService { inner, breaker, wait: None }
    }
}

/// The service that [`CircuitBreaker`] makes. Clones share its breaker.
pub struct CircuitBreakerService<S> {
    inner: S,
    breaker: Arc<Breaker>,
    wait: Option<Wait>,
}

/// What an intake that is held back waits for; it is looked at again after either.
enum Wait {
    /// The end of the open time.
    Time(Pin<Box<Sleep>>),
    /// The end of a probe.
    Change(Pin<Box<OwnedNotified>>),
}

impl<S> CircuitBreakerService<S> {
    /// The breaker's state.
    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }
}

impl<S> Service<Message> for CircuitBreakerService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = CircuitBreakerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.poll(cx));
                self.wait = None;
            }
            self.wait = match self.breaker.enter() {
                Entry::Free => return self.inner.poll_ready(cx).map_err(Into::into),
                Entry::At(due) => Some(Wait::Time(Box::pin(tokio::time::sleep_until(due)))),
                Entry::AfterChange(change) => Some(Wait::Change(change)),
            };
        }
    }

    fn call(&mut self, message: Message) -> Self::Future {
        // Before the call, so that a panic in it counts too.
        let ticket = self.breaker.begin();
        CircuitBreakerFuture { inner: self.inner.call(message), ticket }
    }
}

impl Wait {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Time(sleep) => sleep.as_mut().poll(cx),
            Self::Change(change) => change.as_mut().poll(cx),
        }
    }
}

impl<S: Clone> Clone for CircuitBreakerService<S> {
    /// The clone is not ready.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), breaker: self.breaker.clone(), wait: None }
    }
}

impl<S> fmt::Debug for CircuitBreakerService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerService").field("state", &self.state()).finish_non_exhaustive()
    }
}

pin_project! {
    /// A handler's future whose result a breaker hears of.
    #[must_use = "futures do nothing unless polled"]
    pub struct CircuitBreakerFuture<F> {
        #[pin]
        inner: F,
        ticket: Ticket,
    }
}

impl<F, E> Future for CircuitBreakerFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let poll = this.ticket.watch(|| this.inner.poll(cx));
        let result = ready!(poll).map_err(Into::into);
        match &result {
            Ok(_) => this.ticket.succeeded(),
            Err(error) => this.ticket.failed(&**error),
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, advance};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::error::{Nack, Permanent};

    const OPEN: Duration = Duration::from_secs(30);

    /// Fails for the payload `bad`, never ends for `stuck`.
    fn handler() -> impl Service<Message, Response = Outputs, Error = BoxError, Future: Send> + Clone {
        service_fn(async |message: Message| match &**message.payload() {
            b"bad" => Err("boom".into()),
            b"poison" => Err(Permanent::new("unreadable").into()),
            b"not now" => Err(Nack::new("in progress elsewhere").into()),
            b"panic" => panic!("boom"),
            b"stuck" => std::future::pending().await,
            _ => Ok(Outputs::none()),
        })
    }

    async fn handle<S>(service: &mut CircuitBreakerService<S>, payload: &'static str)
    where
        S: Service<Message, Response = Outputs, Error = BoxError>,
    {
        let _ = service.ready().await.unwrap().call(Message::new(payload)).await;
    }

    fn is_ready<S>(service: &mut CircuitBreakerService<S>) -> bool
    where
        S: Service<Message, Response = Outputs, Error = BoxError>,
    {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        service.poll_ready(&mut cx).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_holds_the_intake() {
        // Go fails each message while open, which the router nacks: a hot loop.
        let mut service = CircuitBreaker::new(6, OPEN).layer(handler());
        for _ in 0..5 {
            handle(&mut service, "bad").await;
        }
        handle(&mut service, "good").await;
        for _ in 0..5 {
            handle(&mut service, "bad").await;
        }
        assert_eq!(service.state(), BreakerState::Closed);
        handle(&mut service, "bad").await;
        assert_eq!(service.state(), BreakerState::Open);
        advance(OPEN - Duration::from_millis(1)).await;
        assert!(!is_ready(&mut service));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_goes_at_once_when_the_time_is_over_and_closes_it() {
        // P41: a breaker that goes on refusing after the cause is gone.
        let mut service = CircuitBreaker::new(1, OPEN).layer(handler());
        handle(&mut service, "bad").await;
        let opened = Instant::now();
        let probe = service.ready().await.unwrap().call(Message::new("good"));
        assert_eq!(opened.elapsed(), OPEN);
        assert_eq!(service.state(), BreakerState::HalfOpen);
        assert!(!is_ready(&mut service), "a second message while the probe is out");
        probe.await.unwrap();
        assert_eq!(service.state(), BreakerState::Closed);
        assert!(is_ready(&mut service));
    }

    #[tokio::test(start_paused = true)]
    async fn an_intake_that_waits_for_a_probe_is_woken_by_its_end() {
        let breaker = CircuitBreaker::new(1, OPEN).shared();
        let (mut first, mut second) = (breaker.layer(handler()), breaker.layer(handler()));
        handle(&mut first, "bad").await;
        let probe = first.ready().await.unwrap().call(Message::new("good"));
        let waiting = tokio::spawn(async move { second.ready().await.map(|_| ()) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        probe.await.unwrap();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
        let mut service = CircuitBreaker::new(3, OPEN).layer(handler());
        for _ in 0..3 {
            handle(&mut service, "bad").await;
        }
        handle(&mut service, "bad").await;
        assert_eq!(service.state(), BreakerState::Open);
        let opened = Instant::now();
        service.ready().await.unwrap();
        assert_eq!(opened.elapsed(), OPEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_or_does_not_count_lets_the_next_one_go() {
        let mut service = CircuitBreaker::new(1, OPEN).layer(handler());
        handle(&mut service, "bad").await;
        drop(service.ready().await.unwrap().call(Message::new("stuck")));
        assert!(is_ready(&mut service));
        handle(&mut service, "poison").await;
        assert_eq!(service.state(), BreakerState::HalfOpen);
        handle(&mut service, "good").await;
        assert_eq!(service.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_permanent_or_nacked_does_not_count_and_panics_do() {
        let mut service = CircuitBreaker::new(1, OPEN).layer(handler());
        handle(&mut service, "poison").await;
        handle(&mut service, "not now").await;
        assert_eq!(service.state(), BreakerState::Closed);
        let running = service.ready().await.unwrap().call(Message::new("panic"));
        crate::panic::CatchPanic::new(|| running).await.unwrap_err();
        assert_eq!(service.state(), BreakerState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn results_of_messages_taken_before_it_opened_do_not_close_it() {
        let mut service = CircuitBreaker::new(1, OPEN).layer(handler());
        let slow = service.ready().await.unwrap().call(Message::new("good"));
        handle(&mut service, "bad").await;
        slow.await.unwrap();
        assert_eq!(service.state(), BreakerState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn handlers_have_a_breaker_each_unless_it_is_shared() {
        let breaker = CircuitBreaker::new(1, OPEN);
        let (mut first, mut second) = (breaker.layer(handler()), breaker.layer(handler()));
        handle(&mut first, "bad").await;
        assert!(is_ready(&mut second));

        let breaker = breaker.shared();
        let (mut first, mut second) = (breaker.layer(handler()), breaker.clone().layer(handler()));
        handle(&mut first, "bad").await;
        assert!(!is_ready(&mut second));
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_is_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let breaker = CircuitBreaker::new(1, OPEN).on_change({
            let told = told.clone();
            move |state| told.lock().unwrap().push(state)
        });
        let mut service = breaker.layer(handler());
        handle(&mut service, "bad").await;
        handle(&mut service, "bad").await;
        handle(&mut service, "good").await;
        use BreakerState::{Closed, HalfOpen, Open};
        assert_eq!(*told.lock().unwrap(), [Open, HalfOpen, Open, HalfOpen, Closed]);
    }
}
