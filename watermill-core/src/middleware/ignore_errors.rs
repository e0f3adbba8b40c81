//! [`IgnoreErrors`]: errors that mean "done".

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    Message, Outputs,
    error::{BoxError, Nack, find},
};

/// Turns certain errors into success without outputs: the message is acked.
///
/// Errors are told apart by their type, wherever it stands among an error's sources, or by a
/// predicate; never by their text. An error that is marked with [`Nack`] is not ignored: it does not mean
/// "done", and its message comes again.
///
/// ```
/// use std::num::ParseIntError;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::IgnoreErrors};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |message: Message| {
///     let count: u64 = std::str::from_utf8(message.payload())?.parse()?;
///     println!("counted {count}");
///     Ok::<_, BoxError>(Outputs::none())
/// });
/// IgnoreErrors::of::<ParseIntError>().layer(handler).oneshot(Message::new("many")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IgnoreErrors {
    ignored: Arc<Predicate>,
}

type Predicate = dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync;

impl IgnoreErrors {
    /// Ignores errors that are an `E` or have one among their sources.
    pub fn of<E: Error + 'static>() -> Self {
        Self::when(|error| find::<E>(error).is_some())
    }

    /// Ignores errors for which `ignored` returns true.
    pub fn when(ignored: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static) -> Self {
        Self { ignored: Arc::new(ignored) }
    }

    /// Also ignores errors that are an `E` or have one among their sources.
    #[must_use]
    pub fn or<E: Error + 'static>(self) -> Self {
        Self::when(move |error| (self.ignored)(error) || find::<E>(error).is_some())
    }
}

impl fmt::Debug for IgnoreErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IgnoreErrors").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for IgnoreErrors {
    type Service = IgnoreErrorsService<S>;

    fn layer(&self, inner: S) -> IgnoreErrorsService<S> {
        IgnoreErrorsService { inner, config: self.clone() }
    }
}

/// The service that [`IgnoreErrors`] makes.
#[derive(Clone, Debug)]
pub struct IgnoreErrorsService<S> {
    inner: S,
    config: IgnoreErrors,
}

impl<S> Service<Message> for IgnoreErrorsService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = IgnoreErrorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        IgnoreErrorsFuture { inner: self.inner.call(message), config: self.config.clone() }
    }
}

pin_project! {
    /// A handler's future without the errors that are ignored.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct IgnoreErrorsFuture<F> {
        #[pin]
        inner: F,
        config: IgnoreErrors,
    }
}

impl<F, E> Future for IgnoreErrorsFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(ready!(this.inner.poll(cx)).or_else(|error| {
            let error = error.into();
            if Nack::is(&*error) || !(this.config.ignored)(&*error) {
                return Err(error);
            }
            tracing::debug!(error = %crate::error::chain(&*error), "ignored an error");
            Ok(Outputs::none())
        }))
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::error::Permanent;

    #[derive(Debug)]
    struct Gone(&'static str);

    impl fmt::Display for Gone {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Gone {}

    #[derive(Debug)]
    struct Wrapping(Gone);

    impl fmt::Display for Wrapping {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapping")
        }
    }

    impl Error for Wrapping {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    async fn run(layer: &IgnoreErrors, error: impl Into<BoxError>) -> Result<Outputs, BoxError> {
        let mut error = Some(error.into());
        let handler = service_fn(move |_: Message| std::future::ready(Err(error.take().unwrap())));
        layer.layer(handler).oneshot(Message::new("x")).await
    }

    #[tokio::test]
    async fn an_error_is_ignored_for_its_type_also_when_it_is_wrapped() {
        // P24: Go compares texts, so it does not see a wrapped sentinel.
        let layer = IgnoreErrors::of::<Gone>();
        assert!(run(&layer, Gone("gone")).await.unwrap().is_empty());
        assert!(run(&layer, Wrapping(Gone("gone"))).await.is_ok());
        assert!(run(&layer, Permanent::new(Gone("gone"))).await.is_ok());
    }

    #[tokio::test]
    async fn another_error_with_the_same_text_is_not_ignored() {
        // P24: in Go it is.
        let error = run(&IgnoreErrors::of::<Gone>(), "gone").await.unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }

    #[tokio::test]
    async fn what_is_nacked_is_not_done() {
        let error =
            run(&IgnoreErrors::when(|_| true).or::<Gone>(), Nack::new(Gone("busy"))).await.unwrap_err();
        assert!(Nack::is(&*error));
    }

    #[tokio::test]
    async fn types_and_a_predicate_add_up() {
        let layer =
            IgnoreErrors::when(|error| error.to_string().contains('7')).or::<Gone>().or::<fmt::Error>();
        assert!(run(&layer, "error 7").await.is_ok());
        assert!(run(&layer, Gone("x")).await.is_ok());
        assert!(run(&layer, fmt::Error).await.is_ok());
        assert!(run(&layer, "error 8").await.is_err());
    }
}
