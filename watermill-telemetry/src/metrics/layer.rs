//! [`MetricsLayer`]: how long handlers take.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};
use watermill_core::{HandlerInfo, Message, Outputs, router::TryTimer};

use super::{
    shared::{NO_HANDLER, Shared},
    timer::HandlerTimer,
};

/// Measures each try of a handler: what [`Metrics::layer`](super::Metrics::layer) makes.
///
/// Layers outside of it take no part in the time, those inside do, and so does the wait of a batch handler for its batch. A try whose future is dropped, by a timeout outside of it for
/// instance, is not measured. The outputs are marked with the name of their handler, which
/// [`MeteredPublisher`](super::MeteredPublisher) reads.
#[derive(Clone)]
pub struct MetricsLayer {
    pub(super) shared: Arc<Shared>,
}

/// The service that [`MetricsLayer`] makes: of one handler, that of its first message.
#[derive(Clone)]
pub struct MetricsService<S> {
    inner: S,
    shared: Arc<Shared>,
    handler: Option<Arc<Measured>>,
}

/// A handler.
struct Measured {
    info: Option<Arc<HandlerInfo>>,
    timer: HandlerTimer,
}

pin_project! {
    /// A handler's future that is measured.
    #[must_use = "futures do nothing unless polled"]
    pub struct MetricsFuture<F> {
        #[pin]
        inner: F,
        began: Instant,
        handler: Arc<Measured>,
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = MetricsService<S>;

    fn layer(&self, inner: S) -> MetricsService<S> {
        MetricsService { inner, shared: Arc::clone(&self.shared), handler: None }
    }
}

impl<S: Service<Message, Response = Outputs>> Service<Message> for MetricsService<S> {
    type Response = Outputs;
    type Error = S::Error;
    type Future = MetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, message: Message) -> Self::Future {
        let handler = match &self.handler {
            Some(handler) => Arc::clone(handler),
            None => self.register(&message),
        };
        let began = Instant::now();
        let unwinding = Unwinding { handler: &handler, began };
        let inner = self.inner.call(message);
        mem::forget(unwinding);
        MetricsFuture { inner, began, handler }
    }
}

impl<S> MetricsService<S> {
    #[cold]
    fn register(&mut self, message: &Message) -> Arc<Measured> {
        let info = message.handler().cloned().map(Arc::new);
        let timer = match &info {
            Some(info) => HandlerTimer::new(&self.shared, &info.name),
            None => HandlerTimer::labelled(&self.shared, NO_HANDLER),
        };
        let measured = Arc::new(Measured { info, timer });
        Arc::clone(self.handler.insert(measured))
    }
}

impl<F, E> Future for MetricsFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
{
    type Output = Result<Outputs, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let unwinding = Unwinding { handler: this.handler, began: *this.began };
        let polled = this.inner.poll(cx);
        mem::forget(unwinding);
        let Poll::Ready(mut result) = polled else { return Poll::Pending };
        this.handler
            .timer
            .ended(this.began.elapsed(), result.as_ref().is_ok_and(|outputs| !outputs.is_dead_lettered()));
        if let Ok(outputs) = &mut result
            && !outputs.is_empty()
        {
            this.handler.name_in(outputs);
        }
        Poll::Ready(result)
    }
}

impl Measured {
    fn name_in(&self, outputs: &mut Outputs) {
        let Some(info) = &self.info else { return };
        for message in outputs.iter_mut().filter(|message| message.handler().is_none()) {
            message.set_handler(Arc::clone(info));
        }
    }
}

/// On the stack while the handler's code runs: it is dropped only where that panics, and costs nothing otherwise.
struct Unwinding<'a> {
    handler: &'a Measured,
    began: Instant,
}

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.handler.timer.ended(self.began.elapsed(), false);
    }
}

impl fmt::Debug for MetricsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsLayer").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for MetricsService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsService").finish_non_exhaustive()
    }
}
