//! [`DelayOnError`]: says when a message that failed should come again.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    Message, Outputs,
    error::{BoxError, Delayed, Nack},
    go_duration, metadata_keys,
};

/// Attaches a delay to the error of a message that failed: longer each time, up to a maximum.
///
/// The delay travels with the error as [`Delayed`]. A [`PoisonQueue`](super::PoisonQueue) outside, or
/// whatever else makes a [`DeadLetter`](crate::DeadLetter) of it, writes it into the metadata
/// (`_watermill_delayed_until`, `_watermill_delayed_for`, as in Go), so that a topic of delayed
/// messages holds it for so long. When the message comes back from there and fails again, its
/// `_watermill_delayed_for` is what the next delay grows from. Without something of the kind outside,
/// this layer changes nothing.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::{Delayed, find}, middleware::DelayOnError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let handler = service_fn(async |_: Message| Err::<Outputs, _>("the bank is closed"));
/// let layer = DelayOnError::new(Duration::from_secs(10)).multiplier(1.5);
/// let again = Message::new("x").with_metadata("_watermill_delayed_for", "10s");
/// let error = layer.layer(handler).oneshot(again).await.unwrap_err();
/// assert_eq!(find::<Delayed>(&*error).unwrap().delay(), Duration::from_secs(15));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DelayOnError {
    initial: Duration,
    max: Duration,
    multiplier: f64,
}

impl DelayOnError {
    /// Delays that begin with `initial` and double, up to an hour (or `initial`, if that is longer).
    pub fn new(initial: Duration) -> Self {
        Self { initial, max: Duration::from_hours(1).max(initial), multiplier: 2.0 }
    }

    /// Sets the longest delay.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets the factor from one delay to the next. Less than one, or not a number, counts as one.
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = if multiplier >= 1.0 { multiplier } else { 1.0 };
        self
    }

    fn next(&self, message: &Message) -> Duration {
        let last = message.metadata().get(metadata_keys::DELAYED_FOR);
        // What cannot be read is not from here, and a first delay is better than none.
        let next = match last.and_then(|text| go_duration::parse(text).ok()) {
            Some(last) if !last.is_zero() => {
                Duration::try_from_secs_f64(last.as_secs_f64() * self.multiplier).unwrap_or(self.max)
            }
            _ => self.initial,
        };
        next.min(self.max).min(go_duration::MAX)
    }
}

impl<S> Layer<S> for DelayOnError {
    type Service = DelayOnErrorService<S>;

    fn layer(&self, inner: S) -> DelayOnErrorService<S> {
        DelayOnErrorService { inner, config: *self }
    }
}

/// The service that [`DelayOnError`] makes.
#[derive(Clone, Debug)]
pub struct DelayOnErrorService<S> {
    inner: S,
    config: DelayOnError,
}

impl<S> Service<Message> for DelayOnErrorService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = DelayOnErrorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let delay = self.config.next(&message);
        DelayOnErrorFuture { inner: self.inner.call(message), delay }
    }
}

pin_project! {
    /// A handler's future whose error carries a delay.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct DelayOnErrorFuture<F> {
        #[pin]
        inner: F,
        delay: Duration,
    }
}

impl<F, E> Future for DelayOnErrorFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(ready!(this.inner.poll(cx)).map_err(|error| match error.into() {
            // It has not failed: it comes again by itself.
            error if Nack::is(&*error) => error,
            error => Delayed::new(error, *this.delay).into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        DeadLetter,
        error::{Permanent, chain, find},
        fixtures::RecordingPublisher,
        middleware::PoisonQueue,
    };

    /// Fails the message again and again, as a delayed requeue would bring it back, and says the
    /// delays.
    async fn delays(layer: DelayOnError, times: usize) -> Vec<String> {
        let mut message = Message::with_id("1", "x");
        let mut delays = Vec::new();
        for _ in 0..times {
            let publisher = RecordingPublisher::default();
            let handler = service_fn(async |_: Message| Err::<Outputs, BoxError>("boom".into()));
            let queue = PoisonQueue::new(publisher.clone(), "delayed").unwrap();
            queue.layer(layer.layer(handler)).oneshot(message).await.unwrap();
            message = publisher.single().1;
            assert_eq!(message.metadata().get("reason_poisoned"), Some("boom"));
            delays.push(message.metadata().get("_watermill_delayed_for").unwrap().to_owned());
        }
        delays
    }

    #[tokio::test]
    async fn delays_double_up_to_the_maximum() {
        let layer = DelayOnError::new(Duration::from_secs(1)).max(Duration::from_secs(10));
        assert_eq!(delays(layer, 6).await, ["1s", "2s", "4s", "8s", "10s", "10s"]);
    }

    #[tokio::test]
    async fn a_fractional_multiplier_counts_and_no_maximum_is_not_zero() {
        // P8: Go truncates 1.5 to 1, and without a maximum the second delay is zero.
        let layer = DelayOnError::new(Duration::from_secs(1)).multiplier(1.5);
        assert_eq!(delays(layer, 4).await, ["1s", "1.5s", "2.25s", "3.375s"]);
    }

    #[tokio::test]
    async fn a_delay_that_cannot_be_read_counts_as_none() {
        let layer = DelayOnError::new(Duration::from_secs(1));
        for text in ["", "soon", "-5s", "0s"] {
            let message = Message::new("x").with_metadata("_watermill_delayed_for", text);
            assert_eq!(layer.next(&message), Duration::from_secs(1), "{text}");
        }
        let message = Message::new("x").with_metadata("_watermill_delayed_for", "2000000h");
        assert_eq!(layer.multiplier(f64::INFINITY).next(&message), Duration::from_hours(1));
        assert_eq!(layer.max(Duration::MAX).next(&message), go_duration::MAX);
    }

    #[test]
    fn the_dead_letter_says_when_in_utc_with_milliseconds() {
        let now = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001);
        let error = Delayed::since("boom", Duration::from_millis(1500), now);
        let letter = DeadLetter::message(Message::new("x"), &error, 1);
        let until = letter.metadata().get("_watermill_delayed_until");
        assert_eq!(until, Some("2023-11-14T22:13:21.501Z"));
        assert_eq!(letter.metadata().get("_watermill_delayed_for"), Some("1.5s"));

        let never = Delayed::since("boom", Duration::MAX, now);
        assert!(never.until() > now);
        DeadLetter::message(Message::new("x"), &never, 1);

        let whole = Delayed::since("boom", Duration::ZERO, UNIX_EPOCH);
        let letter = DeadLetter::message(Message::new("x"), &whole, 1);
        assert_eq!(letter.metadata().get("_watermill_delayed_until"), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn the_error_inside_can_still_be_told() {
        let error = Delayed::since(Permanent::new("boom"), Duration::ZERO, UNIX_EPOCH);
        assert!(Permanent::is(&error));
        assert!(find::<Delayed>(&error).is_some());
        assert_eq!(chain(&error), "boom");
    }

    #[tokio::test]
    async fn success_is_untouched() {
        let handler = service_fn(async |message: Message| Ok::<_, BoxError>(message.into()));
        let message = Message::with_id("1", "x");
        let outputs: Outputs =
            DelayOnError::new(Duration::from_secs(1)).layer(handler).oneshot(message.clone()).await.unwrap();
        assert_eq!(outputs.messages(), [message]);
    }
}
