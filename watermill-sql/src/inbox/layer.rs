//! [`InboxLayer`]: a transaction around the handler of single messages.

use std::{
    fmt,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Layer, Service};
use watermill_core::{Message, Outputs, error::BoxError, router::Promise};

use super::{
    Mark, Tx,
    shared::Shared,
    step::{Ended, Step},
    tx::Lent,
};
use crate::SqlDatabase;

/// Puts a transaction around a handler: made by [`SqlInbox::layer`](crate::SqlInbox::layer), whose docs say what it does.
pub struct InboxLayer<D: SqlDatabase> {
    shared: Arc<Shared<D>>,
}

/// The service that [`InboxLayer`] makes.
pub struct InboxService<D: SqlDatabase, S> {
    inner: S,
    shared: Arc<Shared<D>>,
}

impl<D: SqlDatabase> InboxLayer<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }
}

impl<D: SqlDatabase, S> Layer<S> for InboxLayer<D> {
    type Service = InboxService<D, S>;

    fn layer(&self, inner: S) -> InboxService<D, S> {
        Promise::publishes();
        Promise::provides::<Tx<D>>();
        InboxService { inner, shared: self.shared.clone() }
    }
}

impl<D: SqlDatabase, S> Service<Message> for InboxService<D, S>
where
    S: Service<Message, Response = Outputs> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outputs, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        // The service that was found ready is the one to call; its clone may not be ready.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        Box::pin(handle(self.shared.clone(), inner, message))
    }
}

async fn handle<D, S>(shared: Arc<Shared<D>>, mut inner: S, message: Message) -> Result<Outputs, BoxError>
where
    D: SqlDatabase,
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    let marks: Vec<Mark> =
        Mark::of(&message, &shared.config).map_err(super::InboxError::boxed)?.into_iter().collect();
    let deliveries: Vec<_> = message.delivery().cloned().into_iter().collect();
    let handler = message.handler().cloned();
    let topic = handler.as_ref().and_then(|handler| handler.publish_topic.as_deref());
    let mut step = Step::new(shared);
    step.see_to(topic).await;
    loop {
        let Some((open, _)) = step.begin(&marks, &deliveries).await? else {
            tracing::debug!(message_id = %message.id(), "handled before, acking");
            return Ok(Outputs::none());
        };
        // Whoever leaves by a panic, or is dropped, drops the transaction, which rolls it back.
        let lent = Lent::new(open);
        let handled = call(&mut inner, message.clone().with_extension(lent.clone())).await;
        let answer = handled.as_ref().map_or(Outputs::none(), Outputs::without_messages);
        if step.end(lent.take_back(), handled, topic, &deliveries).await? == Ended::Committed {
            return Ok(answer);
        }
    }
}

async fn call<S>(inner: &mut S, message: Message) -> Result<Outputs, BoxError>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    inner.call(message).await.map_err(Into::into)
}

impl<D: SqlDatabase> Clone for InboxLayer<D> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<D: SqlDatabase, S: Clone> Clone for InboxService<D, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<D: SqlDatabase> fmt::Debug for InboxLayer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InboxLayer").field(&self.shared).finish()
    }
}

impl<D: SqlDatabase, S> fmt::Debug for InboxService<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InboxService").field(&self.shared).finish_non_exhaustive()
    }
}
