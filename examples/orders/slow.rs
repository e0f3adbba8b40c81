//! [`WarnSlow`]: a layer of one's own.

use std::{
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::timeout;
use tower::{Layer, Service};
use watermill_core::{Message, Outputs};

/// Says that a message takes long, while it does: what hangs is seen before it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarnSlow {
    after: Duration,
}

impl WarnSlow {
    pub(crate) fn after(after: Duration) -> Self {
        Self { after }
    }
}

impl<S> Layer<S> for WarnSlow {
    type Service = WarnSlowService<S>;

    fn layer(&self, inner: S) -> WarnSlowService<S> {
        WarnSlowService { inner, after: self.after }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WarnSlowService<S> {
    inner: S,
    after: Duration,
}

impl<S> Service<Message> for WarnSlowService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Future: Send + 'static,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Outputs, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let (id, after) = (message.id().clone(), self.after);
        let handled = self.inner.call(message);
        Box::pin(async move {
            let mut handled = pin!(handled);
            if let Ok(outputs) = timeout(after, &mut handled).await {
                return outputs;
            }
            tracing::warn!(%id, ?after, "a message is slow");
            handled.await
        })
    }
}
