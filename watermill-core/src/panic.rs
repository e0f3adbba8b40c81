//! Panics as errors: the one place where they are caught.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::error::Panicked;

/// Runs `f` and turns a panic into an error.
///
/// What `f` borrows may be left half changed. Callers hand in a service or a future that they either
/// do not use again, or that keeps its promises itself.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_payload(f).map_err(Panicked::from_payload)
}

/// As [`catch`], for whoever may have to let the panic go on.
pub(crate) fn catch_payload<T>(f: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}

/// What a panic was given.
pub(crate) type Payload = Box<dyn Any + Send>;

pin_project! {
    /// A future whose panics are errors, those of the call that makes it included.
    #[project = Project]
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct CatchPanic<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProject]
    #[derive(Debug)]
    enum State<F> {
        Running { #[pin] future: F },
        /// The call that should have made the future panicked.
        Panicked { error: Option<Panicked> },
    }
}

impl<F> CatchPanic<F> {
    /// Makes the future with `call`, which may panic as well.
    pub(crate) fn new(call: impl FnOnce() -> F) -> Self {
        let state = match catch(call) {
            Ok(future) => State::Running { future },
            Err(error) => State::Panicked { error: Some(error) },
        };
        Self { state }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProject::Running { future } => match catch(|| future.poll(cx)) {
                Ok(poll) => poll.map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            },
            StateProject::Panicked { error } => {
                Poll::Ready(Err(error.take().expect("polled again after it was ready")))
            }
        }
    }
}

impl Panicked {
    /// From what `catch_unwind` or a joined task gives back.
    pub(crate) fn from_payload(payload: Box<dyn Any + Send>) -> Self {
        let text = match payload.downcast::<&'static str>() {
            Ok(text) => Ok((*text).to_owned()),
            Err(payload) => payload.downcast::<String>().map(|text| *text),
        };
        Self::new(text.unwrap_or_else(|_| "a value that is not text".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn explode(times: u32) -> u32 {
        assert!(times == 0, "exploded {times} times");
        times
    }

    #[tokio::test]
    async fn a_panic_while_polled_becomes_an_error_with_its_text() {
        let error = CatchPanic::new(|| explode(3)).await.unwrap_err();
        assert_eq!(error.message(), "exploded 3 times");
        assert_eq!(CatchPanic::new(|| explode(0)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_panic_while_the_future_is_made_becomes_an_error() {
        let caught = CatchPanic::new(|| -> std::future::Ready<()> { panic!("no future") });
        assert_eq!(caught.await.unwrap_err().message(), "no future");
    }

    #[test]
    fn a_payload_that_is_not_text_is_still_an_error() {
        let error = catch(|| std::panic::panic_any(7_u8)).unwrap_err();
        assert_eq!(error.to_string(), "run the handler: it panicked: a value that is not text");
    }
}
