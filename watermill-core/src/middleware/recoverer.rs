//! [`Recoverer`]: a panic is an error like any other.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Message, Outputs, error::BoxError, panic::CatchPanic};

/// Turns a panic of the handler, or of a layer inside, into a [`Panicked`](crate::error::Panicked)
/// error.
///
/// A router catches panics anyway, outside of all layers, and treats the message as failed. Put this
/// layer inside of those that should see the error: [`Retry`](super::Retry),
/// [`CircuitBreaker`](super::CircuitBreaker), your own.
///
/// ```
/// use tower::{Layer, Service, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::{BoxError, Panicked, find}, middleware::Recoverer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |message: Message| {
///     let cents: u64 = message.decode_json().expect("a number");
///     println!("charged {cents}");
///     Ok::<_, BoxError>(Outputs::none())
/// });
/// let error = Recoverer::new().layer(handler).oneshot(Message::new("many")).await.unwrap_err();
/// assert!(find::<Panicked>(&*error).unwrap().message().starts_with("a number"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Recoverer;

impl Recoverer {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for Recoverer {
    type Service = RecovererService<S>;

    fn layer(&self, inner: S) -> RecovererService<S> {
        RecovererService { inner }
    }
}

/// The service that [`Recoverer`] makes.
#[derive(Clone, Debug)]
pub struct RecovererService<S> {
    inner: S,
}

impl<S> Service<Message> for RecovererService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = RecovererFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        RecovererFuture { inner: CatchPanic::new(|| self.inner.call(message)) }
    }
}

pin_project! {
    /// A handler's future that does not panic.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RecovererFuture<F> {
        #[pin]
        inner: CatchPanic<F>,
    }
}

impl<F, E> Future for RecovererFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.project().inner.poll(cx)) {
            Ok(result) => result.map_err(Into::into),
            Err(panicked) => Err(panicked.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::error::{Panicked, find};

    #[tokio::test]
    async fn a_panic_after_a_wait_becomes_an_error_and_the_service_goes_on() {
        let mut handler = Recoverer::new().layer(service_fn(async |message: Message| {
            tokio::task::yield_now().await;
            assert!(message.payload() != "bad", "bad payload");
            Ok::<_, BoxError>(message.into())
        }));
        let error = handler.ready().await.unwrap().call(Message::new("bad")).await.unwrap_err();
        assert_eq!(find::<Panicked>(&*error).unwrap().message(), "bad payload");
        let outputs = handler.ready().await.unwrap().call(Message::new("good")).await.unwrap();
        assert_eq!(outputs.len(), 1);
    }

    #[tokio::test]
    async fn a_panic_in_the_call_itself_becomes_an_error() {
        let handler =
            service_fn(|_: Message| -> std::future::Ready<Result<Outputs, BoxError>> { panic!("early") });
        let error = Recoverer::new().layer(handler).oneshot(Message::new("x")).await.unwrap_err();
        assert!(find::<Panicked>(&*error).is_some());
    }

    #[tokio::test]
    async fn an_error_passes_unchanged() {
        let handler = service_fn(async |_: Message| Err::<Outputs, _>(std::fmt::Error));
        let error = Recoverer::new().layer(handler).oneshot(Message::new("x")).await.unwrap_err();
        assert!(error.is::<std::fmt::Error>());
    }
}
