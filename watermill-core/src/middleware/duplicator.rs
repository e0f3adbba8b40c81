//! [`Duplicator`]: handles everything twice.

use std::{
    mem,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Layer, Service, ServiceExt};

use crate::{Message, Outputs};

/// Runs the handler twice for each message and returns the outputs of both runs: an aid for tests of
/// idempotency, since at least once means that some day it is twice.
///
/// An error of either run is the result. The services inside have to be `Clone`; the future is boxed,
/// which costs one allocation for each message.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::Duplicator};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let echo = service_fn(async |message: Message| Ok::<_, BoxError>(Outputs::from(message)));
/// let outputs = Duplicator::new().layer(echo).oneshot(Message::new("x")).await?;
/// assert_eq!(outputs.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Duplicator;

impl Duplicator {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for Duplicator {
    type Service = DuplicatorService<S>;

    fn layer(&self, inner: S) -> DuplicatorService<S> {
        DuplicatorService { inner }
    }
}

/// The service that [`Duplicator`] makes.
#[derive(Clone, Debug)]
pub struct DuplicatorService<S> {
    inner: S,
}

impl<S> Service<Message> for DuplicatorService<S>
where
    S: Service<Message, Response = Outputs> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Outputs, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        // The service that was found ready is the one to call; its clone may not be ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let mut outputs = inner.call(message.clone()).await?;
            outputs.append(inner.ready().await?.call(message).await?);
            Ok(outputs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tower::service_fn;

    use super::*;
    use crate::error::BoxError;

    /// Fails in the given run, counted from 1, and returns how many runs there were.
    async fn runs_until_failure(failing: u32) -> (Result<Outputs, BoxError>, u32) {
        let runs = Arc::new(AtomicU32::new(0));
        let handler = {
            let runs = runs.clone();
            service_fn(move |message: Message| {
                let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
                std::future::ready(if run == failing { Err("boom".into()) } else { Ok(message.into()) })
            })
        };
        let result = Duplicator::new().layer(handler).oneshot(Message::with_id("1", "x")).await;
        (result, runs.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_handler_runs_twice_with_the_same_message() {
        let (outputs, runs) = runs_until_failure(0).await;
        let message = Message::with_id("1", "x");
        assert_eq!(outputs.unwrap().messages(), [message.clone(), message]);
        assert_eq!(runs, 2);
    }

    #[tokio::test]
    async fn an_error_of_either_run_is_the_result() {
        for failing in [1, 2] {
            let (result, runs) = runs_until_failure(failing).await;
            assert_eq!(result.unwrap_err().to_string(), "boom");
            assert_eq!(runs, failing);
        }
    }
}
