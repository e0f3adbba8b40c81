//! [`Timeout`]: a handler has so long and no longer.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::{HandlerInfo, Message, Outputs, error::BoxError};

/// Drops the handler's future when it takes too long, and fails the message with [`Elapsed`].
///
/// Each try has the whole time: put it inside of [`Retry`](super::Retry). Outside, it bounds all
/// tries and the waits between them.
///
/// Dropping a future stops it at its next `.await`; code that computes or blocks is not interrupted,
/// and a task that the handler spawned goes on. tower's own `TimeoutLayer` works as well; this one's
/// error names the handler.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::{Elapsed, Timeout}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stuck = service_fn(async |_: Message| std::future::pending::<Result<Outputs, BoxError>>().await);
/// let error = Timeout::new(Duration::from_millis(1)).layer(stuck).oneshot(Message::new("x")).await.unwrap_err();
/// assert!(error.is::<Elapsed>());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    after: Duration,
}

impl Timeout {
    /// Gives each message this long.
    pub const fn new(after: Duration) -> Self {
        Self { after }
    }
}

impl<S> Layer<S> for Timeout {
    type Service = TimeoutService<S>;

    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService { inner, after: self.after }
    }
}

/// The service that [`Timeout`] makes.
#[derive(Clone, Debug)]
pub struct TimeoutService<S> {
    inner: S,
    after: Duration,
}

impl<S> Service<Message> for TimeoutService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let elapsed = Elapsed { handler: message.handler_shared().cloned(), after: self.after };
        TimeoutFuture { inner: self.inner.call(message), sleep: sleep(self.after), elapsed: Some(elapsed) }
    }
}

pin_project! {
    /// A handler's future with an end.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        sleep: Sleep,
        elapsed: Option<Elapsed>,
    }
}

impl<F, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The handler goes first: a result that is there counts, and a quick handler never starts
        // the timer.
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        this.sleep
            .poll(cx)
            .map(|()| Err(this.elapsed.take().expect("polled again after it was ready").into()))
    }
}

/// A handler took longer than it was given. The message is treated like one whose handler returned
/// an error.
#[derive(Clone, Debug)]
pub struct Elapsed {
    handler: Option<Arc<HandlerInfo>>,
    after: Duration,
}

impl Elapsed {
    /// The handler's name, inside a router.
    pub fn handler(&self) -> Option<&str> {
        self.handler.as_ref().map(|handler| handler.name.as_str())
    }

    /// How long it was given.
    pub fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the message in time: ")?;
        match self.handler() {
            Some(name) => write!(f, "{name:?} took longer than {:?}", self.after),
            None => write!(f, "it took longer than {:?}", self.after),
        }
    }
}

impl Error for Elapsed {}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::fixtures::Outcomes;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_is_dropped_and_named() {
        let alive = Arc::new(());
        let handle = {
            let alive = Arc::downgrade(&alive);
            let mut held = Some(alive.upgrade().unwrap());
            move |_: Message| {
                let held = held.take();
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                    Ok::<_, BoxError>(Outputs::none())
                }
            }
        };
        let delivery = Outcomes::default().deliver(Message::new("x"));
        let mut handler = Timeout::new(LIMIT).layer(service_fn(handle));
        let error = handler.ready().await.unwrap().call(delivery.message().clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "handle the message in time: \"bill\" took longer than 5s");
        let left: Weak<()> = Arc::downgrade(&alive);
        assert_eq!(left.strong_count(), 1, "the future is gone with all it held");
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_comes_in_the_last_moment_counts() {
        let handler = service_fn(async |_: Message| {
            sleep(LIMIT).await;
            Ok::<_, BoxError>(Outputs::from(Message::new("done")))
        });
        let outputs = Timeout::new(LIMIT).layer(handler).oneshot(Message::new("x")).await.unwrap();
        assert_eq!(outputs.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_message_has_the_whole_time_again() {
        // P12: in Go the expired context stays on the message, for whatever comes next.
        let mut first = true;
        let mut handler = Timeout::new(LIMIT).layer(service_fn(move |_: Message| {
            let takes = if std::mem::take(&mut first) { LIMIT * 2 } else { LIMIT / 2 };
            async move {
                sleep(takes).await;
                Ok::<_, BoxError>(Outputs::none())
            }
        }));
        let message = Message::new("x");
        assert!(handler.ready().await.unwrap().call(message.clone()).await.is_err());
        assert!(handler.ready().await.unwrap().call(message).await.is_ok());
    }
}
