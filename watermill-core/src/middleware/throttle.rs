//! [`Throttle`]: so many messages in so much time.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use crate::{Message, Outputs};

/// Limits the rate at which messages are handled, with a token bucket.
///
/// It pauses the intake: while the bucket is empty the handler takes no message from its
/// subscription, so messages wait in the backend, and nothing is nacked or held up at shutdown.
///
/// The messages are spaced evenly unless [`burst`](Self::burst) says otherwise. Each handler that the
/// layer is put around has a bucket of its own; [`shared`](Self::shared) makes it one for all.
/// [`ThrottleByKey`](super::ThrottleByKey) limits each customer, tenant or device by itself.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::Throttle};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// let throttle = Throttle::new(100, Duration::from_secs(1))?.burst(10);
/// throttle.layer(handler).oneshot(Message::new("x")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Throttle {
    rate: Rate,
    shared: Option<Arc<Bucket>>,
}

impl Throttle {
    /// Lets `count` messages pass in each `per`, evenly spaced.
    ///
    /// # Errors
    ///
    /// [`InvalidRate`] when `count` or `per` is zero.
    pub fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        Ok(Self { rate: Rate::new(count, per)?, shared: None })
    }

    /// Sets how many messages may pass at once after a quiet time. Zero counts as one.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.rate = self.rate.burst(burst);
        self.shared = self.shared.is_some().then(|| Arc::new(Bucket::new(self.rate)));
        self
    }

    /// Makes all handlers that this layer, or a clone of it, is put around share one bucket: for a
    /// limit of something they all call.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = Some(Arc::new(Bucket::new(self.rate)));
        self
    }
}

impl<S> Layer<S> for Throttle {
    type Service = ThrottleService<S>;

    fn layer(&self, inner: S) -> ThrottleService<S> {
        let bucket = self.shared.clone().unwrap_or_else(|| Arc::new(Bucket::new(self.rate)));
        ThrottleService { inner, bucket, token: None, sleep: None }
    }
}

/// The service that [`Throttle`] makes. Clones share its bucket.
#[derive(Debug)]
pub struct ThrottleService<S> {
    inner: S,
    bucket: Arc<Bucket>,
    token: Option<Token>,
    /// Kept from one wait to the next.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> Service<Message> for ThrottleService<S>
where
    S: Service<Message, Response = Outputs>,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        while self.token.is_none() {
            match Token::take(&self.bucket) {
                Ok(token) => self.token = Some(token),
                Err(due) => ready!(self.poll_sleep_until(due, cx)),
            }
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> S::Future {
        self.token.take().expect("called before it was ready").spend();
        self.inner.call(message)
    }
}

impl<S> ThrottleService<S> {
    fn poll_sleep_until(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }
}

impl<S: Clone> Clone for ThrottleService<S> {
    /// The clone is not ready.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), bucket: self.bucket.clone(), token: None, sleep: None }
    }
}

/// A rate of nothing, or in no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRate {
    count: u32,
    per: Duration,
}

impl fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "set up a throttle: {} messages in {:?} is no rate, both must be more than zero",
            self.count, self.per
        )
    }
}

impl Error for InvalidRate {}

const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// From one message to the next.
    interval: Duration,
    /// How many intervals may be saved up, the current one not counted.
    saved_max: u32,
}

impl Rate {
    pub(super) fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        if count == 0 || per.is_zero() {
            return Err(InvalidRate { count, per });
        }
        // Within what an `Instant` can be moved by: nothing is no limit, and a century is forever.
        let interval = (per / count).clamp(Duration::from_nanos(1), CENTURY);
        Ok(Self { interval, saved_max: 0 })
    }

    pub(super) fn burst(self, burst: u32) -> Self {
        Self { saved_max: burst.max(1) - 1, ..self }
    }

    /// How long until a bucket that is full again at `full_at` has a token.
    pub(super) fn wait(self, full_at: Instant, now: Instant) -> Duration {
        let taken_ahead = full_at.saturating_duration_since(now);
        taken_ahead.saturating_sub(self.interval.saturating_mul(self.saved_max))
    }

    /// When the bucket is full again after one more token was taken.
    pub(super) fn take(self, full_at: Instant, now: Instant) -> Instant {
        full_at.max(now) + self.interval
    }

    /// The same after a token was given back.
    pub(super) fn give_back(self, full_at: Instant) -> Instant {
        full_at.checked_sub(self.interval).unwrap_or(full_at)
    }
}

/// A token bucket, written down as the time when it will be full again: every message taken moves
/// that time on by one interval (the generic cell rate algorithm of ATM networks).
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::new(Instant::now()) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Instant) -> T) -> T {
        change(&mut self.full_at.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A message that may pass. Dropped unspent, it goes back into the bucket.
#[derive(Debug)]
struct Token(Option<Arc<Bucket>>);

impl Token {
    /// A token, or when there will be one.
    fn take(bucket: &Arc<Bucket>) -> Result<Self, Instant> {
        let now = Instant::now();
        bucket.change(|full_at| {
            let wait = bucket.rate.wait(*full_at, now);
            if !wait.is_zero() {
                return Err(now + wait);
            }
            *full_at = bucket.rate.take(*full_at, now);
            Ok(Self(Some(bucket.clone())))
        })
    }

    /// Counts the message as passing now, not when the token was taken: a token kept through a quiet
    /// time is not one more to a burst.
    fn spend(mut self) {
        if let Some(bucket) = self.0.take() {
            let interval = bucket.rate.interval;
            bucket.change(|full_at| *full_at = (*full_at).max(Instant::now() + interval));
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(bucket) = self.0.take() {
            bucket.change(|full_at| *full_at = bucket.rate.give_back(*full_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::error::BoxError;

    fn handler() -> impl Service<Message, Response = Outputs, Error = BoxError> + Clone {
        service_fn(async |_: Message| Ok(Outputs::none()))
    }

    /// Handles `count` messages one after another and says when each was taken, in milliseconds.
    async fn taken_at_ms<S>(service: &mut S, count: usize) -> Vec<u128>
    where
        S: Service<Message, Response = Outputs, Error = BoxError>,
    {
        let began = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..count {
            service.ready().await.unwrap().call(Message::new("x")).await.unwrap();
            taken.push(began.elapsed().as_millis());
        }
        taken
    }

    fn ten_a_second() -> Throttle {
        Throttle::new(10, Duration::from_secs(1)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn messages_pass_evenly_spaced() {
        let mut service = ten_a_second().layer(handler());
        assert_eq!(taken_at_ms(&mut service, 4).await, [0, 100, 200, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_is_saved_up_again() {
        let mut service = ten_a_second().burst(3).layer(handler());
        assert_eq!(taken_at_ms(&mut service, 5).await, [0, 0, 0, 100, 200]);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(taken_at_ms(&mut service, 4).await, [0, 0, 50, 150]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_time_after_ready_does_not_add_to_the_burst() {
        let mut service = ten_a_second().burst(2).layer(handler());
        service.ready().await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken_at_ms(&mut service, 3).await, [0, 0, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn clones_and_sharing_handlers_have_one_bucket_others_their_own() {
        let throttle = ten_a_second().shared();
        let mut first = throttle.layer(handler());
        let mut second = throttle.clone().layer(handler());
        let mut cloned = first.clone();
        assert_eq!(taken_at_ms(&mut first, 1).await, [0]);
        assert_eq!(taken_at_ms(&mut second, 1).await, [100]);
        assert_eq!(taken_at_ms(&mut cloned, 1).await, [100]);

        let throttle = ten_a_second();
        assert_eq!(taken_at_ms(&mut throttle.layer(handler()), 1).await, [0]);
        assert_eq!(taken_at_ms(&mut throttle.layer(handler()), 1).await, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_and_a_token_that_is_not_used_cost_nothing() {
        // P23: Go waits for the whole tick though the message's context is cancelled.
        let throttle = ten_a_second().shared();
        let mut service = throttle.layer(handler());
        assert_eq!(taken_at_ms(&mut service, 1).await, [0]);
        assert!(futures::poll!(Box::pin(service.ready())).is_pending());
        tokio::time::advance(Duration::from_millis(100)).await;
        service.ready().await.unwrap();
        drop(service);
        assert_eq!(taken_at_ms(&mut throttle.layer(handler()), 1).await, [0]);
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        // P23: Go divides by zero.
        let error = Throttle::new(0, Duration::from_secs(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "set up a throttle: 0 messages in 1s is no rate, both must be more than zero"
        );
        assert!(Throttle::new(1, Duration::ZERO).is_err());
    }
}
