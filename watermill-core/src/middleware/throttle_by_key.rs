//! [`ThrottleByKey`]: so many messages of one key in so much time.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, Service};

use super::throttle::{InvalidRate, Rate};
use crate::{Message, Outputs, error::BoxError};

/// Limits the rate at which messages of one key are handled: each customer, tenant or device has a
/// token bucket of its own, as [`Throttle`](super::Throttle) has one for all.
///
/// The key is known only once a message has been taken, so this is not an intake valve: a message
/// that comes too early waits inside the handler. It occupies one of the handler's places there, and
/// later messages of its ordering scope wait behind it. Order by the same key
/// (`Handler::ordered_by_key`) so that keys do not wait for each other.
///
/// A message whose wait is given up (a timeout, a shutdown) gives its share back. At most
/// [`keys_max`](Self::keys_max) keys are remembered.
///
/// The services inside have to be `Clone`; only a message that waits costs a clone of them and an
/// allocation.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::ThrottleByKey};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// let tenant = |message: &Message| message.metadata().get("tenant").map(str::to_owned);
/// let throttle = ThrottleByKey::new(10, Duration::from_secs(1), tenant)?;
/// throttle.layer(handler).oneshot(Message::new("x").with_metadata("tenant", "acme")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ThrottleByKey {
    rate: Rate,
    keys_max: usize,
    key: Arc<KeyOf>,
}

type KeyOf = dyn Fn(&Message) -> Option<String> + Send + Sync;

impl ThrottleByKey {
    /// Lets `count` messages of a key pass in each `per`, evenly spaced. Messages for which `key`
    /// returns `None` are not limited.
    ///
    /// # Errors
    ///
    /// [`InvalidRate`] when `count` or `per` is zero.
    pub fn new(
        count: u32,
        per: Duration,
        key: impl Fn(&Message) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, InvalidRate> {
        Ok(Self { rate: Rate::new(count, per)?, keys_max: 10_000, key: Arc::new(key) })
    }

    /// Sets how many messages of a key may pass at once after a quiet time. Zero counts as one.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.rate = self.rate.burst(burst);
        self
    }

    /// Sets how many keys are remembered (10,000; zero counts as one). A key without a message for a
    /// while needs no memory. When more are busy at once, the one that needs it least is forgotten,
    /// and may pass too early.
    #[must_use]
    pub fn keys_max(mut self, keys_max: usize) -> Self {
        self.keys_max = keys_max.max(1);
        self
    }
}

impl fmt::Debug for ThrottleByKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleByKey")
            .field("rate", &self.rate)
            .field("keys_max", &self.keys_max)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ThrottleByKey {
    type Service = ThrottleByKeyService<S>;

    fn layer(&self, inner: S) -> ThrottleByKeyService<S> {
        ThrottleByKeyService { inner, config: self.clone(), buckets: Arc::default() }
    }
}

/// The service that [`ThrottleByKey`] makes. Clones share its buckets.
#[derive(Clone, Debug)]
pub struct ThrottleByKeyService<S> {
    inner: S,
    config: ThrottleByKey,
    buckets: Buckets,
}

/// When the bucket of each key is full again. One that is full already need not be here.
type Buckets = Arc<Mutex<HashMap<String, Instant>>>;

impl<S> ThrottleByKeyService<S> {
    /// Takes a token, in advance if there is none: then it is one to wait for.
    fn take(&self, key: String) -> Option<Advance> {
        let ThrottleByKey { rate, keys_max, .. } = self.config;
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= keys_max && !buckets.contains_key(&key) {
            make_room(&mut buckets, keys_max, now);
        }
        let Some(full_at) = buckets.get_mut(&key) else {
            buckets.insert(key, rate.take(now, now));
            return None;
        };
        let wait = rate.wait(*full_at, now);
        *full_at = rate.take(*full_at, now);
        (!wait.is_zero()).then(|| Advance { wait, rate, key, unspent: Some(self.buckets.clone()) })
    }
}

/// A token that is there after a wait. Dropped, it is given back: or else a message that is given up
/// and delivered again would put off its own turn each time.
struct Advance {
    wait: Duration,
    rate: Rate,
    key: String,
    unspent: Option<Buckets>,
}

impl Advance {
    /// Uses the token.
    fn spend(mut self) {
        self.unspent = None;
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        let Some(buckets) = &self.unspent else { return };
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = buckets.get_mut(&self.key) {
            *full_at = self.rate.give_back(*full_at);
        }
    }
}

/// Forgets full buckets, or else the one that is full first.
fn make_room(buckets: &mut HashMap<String, Instant>, keys_max: usize, now: Instant) {
    buckets.retain(|_, full_at| *full_at > now);
    if buckets.len() >= keys_max
        && let Some(first) = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone())
    {
        buckets.remove(&first);
    }
}

impl<S> Service<Message> for ThrottleByKeyService<S>
where
    S: Service<Message, Response = Outputs> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = ThrottleByKeyFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let advance = (self.config.key)(&message).and_then(|key| self.take(key));
        let step = match advance {
            None => Step::Running { future: self.inner.call(message) },
            Some(advance) => {
                // The service that was found ready is the one to call; its clone may not be ready.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                Step::Waiting {
                    sleep: Box::pin(sleep(advance.wait)),
                    turn: Some(Turn { advance, service, message }),
                }
            }
        };
        ThrottleByKeyFuture { step }
    }
}

pin_project! {
    /// A handler's future that may have to wait before it begins.
    #[must_use = "futures do nothing unless polled"]
    pub struct ThrottleByKeyFuture<S: Service<Message>> {
        #[pin]
        step: Step<S, S::Future>,
    }
}

pin_project! {
    #[project = StepProject]
    enum Step<S, F> {
        Waiting { sleep: Pin<Box<Sleep>>, turn: Option<Turn<S>> },
        Running { #[pin] future: F },
    }
}

/// A call that waits for its turn.
struct Turn<S> {
    advance: Advance,
    service: S,
    message: Message,
}

impl<S> Future for ThrottleByKeyFuture<S>
where
    S: Service<Message, Response = Outputs>,
{
    type Output = Result<Outputs, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let future = match step.as_mut().project() {
                StepProject::Waiting { sleep, turn } => {
                    ready!(sleep.as_mut().poll(cx));
                    let mut turn = turn.take().expect("polled again after a panic");
                    turn.advance.spend();
                    turn.service.call(turn.message)
                }
                StepProject::Running { future } => return future.poll(cx),
            };
            step.set(Step::Running { future });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// Handles a message for each tenant at once and says when each handler began, in milliseconds.
    async fn began_at_ms(layer: &ThrottleByKey, tenants: &[&str]) -> Vec<u128> {
        let began = Instant::now();
        let handler = service_fn(move |_: Message| {
            let at = began.elapsed().as_millis().to_string();
            std::future::ready(Ok::<_, BoxError>(Outputs::from(Message::new(at))))
        });
        let mut service = layer.layer(handler);
        let mut running = Vec::new();
        for tenant in tenants {
            let message = Message::with_id(*tenant, "x");
            running.push(service.ready().await.unwrap().call(message));
        }
        let times = join_all(running).await.into_iter();
        times.map(|outputs| outputs.unwrap().messages()[0].decode_json().unwrap()).collect()
    }

    fn ten_a_second() -> ThrottleByKey {
        let by_id = |message: &Message| Some(message.id().to_string()).filter(|id| !id.is_empty());
        ThrottleByKey::new(10, Duration::from_secs(1), by_id).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_one_key_are_spaced_and_other_keys_do_not_wait() {
        let times = began_at_ms(&ten_a_second(), &["a", "a", "b", "a", "b", "", ""]).await;
        assert_eq!(times, [0, 100, 0, 200, 100, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_burst() {
        let times = began_at_ms(&ten_a_second().burst(2), &["a", "a", "a", "b", "b", "b"]).await;
        assert_eq!(times, [0, 0, 100, 0, 0, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_does_not_put_off_the_next_turn() {
        // P23, by key: a message that times out and comes again would never get its turn.
        let mut service =
            ten_a_second().layer(service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none())));
        let message = Message::with_id("a", "x");
        service.ready().await.unwrap().call(message.clone()).await.unwrap();
        for _ in 0..100 {
            let mut waiting = Box::pin(service.ready().await.unwrap().call(message.clone()));
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        let began = Instant::now();
        service.ready().await.unwrap().call(message).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_are_remembered_than_allowed() {
        let layer = ten_a_second().keys_max(2);
        let mut service = layer.layer(service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none())));
        for key in 0..100 {
            service.ready().await.unwrap().call(Message::with_id(key.to_string(), "x")).await.unwrap();
            assert!(service.buckets.lock().unwrap().len() <= 2);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        service.ready().await.unwrap().call(Message::with_id("last", "x")).await.unwrap();
        assert_eq!(service.buckets.lock().unwrap().len(), 1, "full buckets need no memory");
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        assert!(ThrottleByKey::new(0, Duration::from_secs(1), |_| None).is_err());
    }
}
