//! [`Deduplicator`]: handles a message once, though it comes twice.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Layer, Service};
use watermill_core::{
    Message, Outputs,
    delivery::Outcome,
    error::{BoxError, Nack},
    middleware::{DeduplicationKey, DeduplicationStore, Reserved},
};

/// Handles each message id once within the memory of its store, and acks repeats unhandled.
#[derive(Clone)]
pub struct Deduplicator {
    store: Arc<dyn DeduplicationStore>,
}

impl Deduplicator {
    /// Keeps its marks in `store`.
    pub fn new(store: impl DeduplicationStore + 'static) -> Self {
        Self { store: Arc::new(store) }
    }
}

impl fmt::Debug for Deduplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicator").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Deduplicator {
    type Service = DeduplicatorService<S>;

    fn layer(&self, inner: S) -> DeduplicatorService<S> {
        DeduplicatorService { inner, config: self.clone() }
    }
}

/// The service that [`Deduplicator`] makes.
#[derive(Clone, Debug)]
pub struct DeduplicatorService<S> {
    inner: S,
    config: Deduplicator,
}

impl<S> Service<Message> for DeduplicatorService<S>
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
        Box::pin(handle(inner, self.config.store.clone(), message))
    }
}

async fn handle<S>(
    mut inner: S,
    store: Arc<dyn DeduplicationStore>,
    message: Message,
) -> Result<Outputs, BoxError>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    let delivery = message.delivery().cloned();
    if let Some(delivery) = &delivery {
        // Another try of this delivery in place: what the try before it has reserved is its own.
        delivery.forget_listeners();
    }
    let handler = message.handler().map_or("", |handler| &handler.name).to_owned();
    let key = DeduplicationKey { scope: &handler, key: message.id().as_str() };
    // A store that is away is not the message's fault, and neither is a duplicate in progress.
    let reservation = match store.reserve(key).await.map_err(Nack::new)? {
        Reserved::New(reservation) => reservation,
        Reserved::Duplicate => return Ok(Outputs::none()),
        Reserved::InProgress => return Err(Nack::new("another delivery is in progress").into()),
    };
    // From here on an error, a panic and a drop set the key free, as dropping the reservation does.
    let outputs = inner.call(message).await.map_err(Into::into)?;
    match delivery {
        // The mark must not come before the outputs are out, or a failed publish would be a loss.
        Some(delivery) => delivery.on_settled(move |outcome| {
            if *outcome == Outcome::Ack {
                reservation.commit();
            }
        }),
        None => reservation.commit(),
    }
    Ok(outputs)
}
