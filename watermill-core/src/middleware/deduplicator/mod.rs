//! [`Deduplicator`]: handles a message once, though it comes twice.

mod memory;
mod publisher;
mod store;

use std::{
    error::Error,
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Layer, Service};

pub use self::{
    memory::MemoryDeduplicationStore,
    publisher::DeduplicatingPublisher,
    store::{DeduplicationKey, DeduplicationStore, Reservation, Reserved},
};
use crate::{
    Message, Outputs,
    delivery::Outcome,
    error::{BoxError, Nack, Permanent},
};

/// Handles messages once within the memory of its store: a repeat is acked and produces nothing.
///
/// Messages are the same when their ids are, unless [`key`](Self::key) says otherwise. A message
/// without a key (an empty id) is always handled. Handlers do not see each other's marks, though they
/// use one store.
///
/// Nothing is lost for it: before the handler runs the key is only reserved. It is marked when the
/// delivery is acked, so after the outputs were published, and set free when the handler fails, when
/// its outputs cannot be published, and when the future is dropped. A repeat that comes in between
/// fails with [`InProgress`] and is nacked, so that it is delivered again later, when the outcome is
/// known. So is every message while the store cannot be asked.
///
/// That leaves a gap: when the process dies between the handler's effects and the mark, the message
/// is handled again. Handlers whose effects are rows in a database close it by marking in the same
/// transaction.
///
/// The services inside have to be `Clone`; the future is boxed, which with the key costs a few
/// allocations for each message.
///
/// ```
/// use std::time::Duration;
///
/// use tower::{Layer, Service, ServiceExt, service_fn};
/// use watermill_core::{
///     Message, Outputs, error::BoxError,
///     middleware::{Deduplicator, MemoryDeduplicationStore},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let store = MemoryDeduplicationStore::new(Duration::from_secs(600), 100_000);
/// let echo = service_fn(async |message: Message| Ok::<_, BoxError>(Outputs::from(message)));
/// let mut handler = Deduplicator::new(store).layer(echo);
///
/// let message = Message::new("x");
/// assert_eq!(handler.ready().await?.call(message.clone()).await?.len(), 1);
/// assert_eq!(handler.ready().await?.call(message).await?.len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Deduplicator {
    store: Arc<dyn DeduplicationStore>,
    key: Arc<KeyOf>,
}

type KeyOf = dyn Fn(&Message) -> Option<String> + Send + Sync;

impl Deduplicator {
    /// Tells messages apart by their ids and keeps its marks in `store`.
    pub fn new(store: impl DeduplicationStore + 'static) -> Self {
        let by_id = |message: &Message| Some(message.id().to_string());
        Self { store: Arc::new(store), key: Arc::new(by_id) }
    }

    /// Tells messages apart by what `key` returns. `None` and empty text mean that a message has
    /// nothing it could be told by: it is always handled.
    #[must_use]
    pub fn key(mut self, key: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        self.key = Arc::new(key);
        self
    }

    /// Tells messages apart by a metadata entry.
    #[must_use]
    pub fn key_from_metadata(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.key(move |message| message.metadata().get(&name).map(ToOwned::to_owned))
    }

    /// A publisher that drops repeats by the same keys and the same store before they reach `inner`.
    pub fn publisher<P>(&self, inner: P) -> DeduplicatingPublisher<P> {
        DeduplicatingPublisher::new(inner, self.clone())
    }

    fn key_of(&self, message: &Message) -> Option<String> {
        (self.key)(message).filter(|key| !key.is_empty())
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
        let key = self.config.key_of(&message);
        let store = self.config.store.clone();
        Box::pin(handle(inner, message, key, store))
    }
}

async fn handle<S>(
    mut inner: S,
    message: Message,
    key: Option<String>,
    store: Arc<dyn DeduplicationStore>,
) -> Result<Outputs, BoxError>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    let Some(key) = key else {
        return inner.call(message).await.map_err(Into::into);
    };
    let delivery = message.delivery().cloned();
    if let Some(delivery) = &delivery {
        // A try in place after outputs that could not be published: the key is this delivery's own.
        delivery.forget_listeners();
    }
    // Prefixed: a handler and a topic of the same name are two scopes.
    let scope = format!("handler:{}", message.handler().map_or("", |handler| &handler.name));
    let reserved = store.reserve(DeduplicationKey { scope: &scope, key: &key }).await;
    let reservation = match reserved.map_err(unless_permanent)? {
        Reserved::New(reservation) => reservation,
        Reserved::Duplicate => {
            tracing::debug!(message_id = %message.id(), key, "handled before, acking");
            return Ok(Outputs::none());
        }
        Reserved::InProgress => return Err(Nack::new(InProgress { key }).into()),
    };
    // From here on an error, a panic or a drop sets the key free, as dropping the reservation does.
    let outputs = inner.call(message).await.map_err(Into::into)?;
    match delivery {
        // A mark that came before the outputs are out would turn a failed publish into a loss: the
        // redelivery would be taken for a repeat.
        Some(delivery) => delivery.on_settled(move |outcome| {
            if *outcome == Outcome::Ack {
                reservation.commit();
            }
        }),
        None => reservation.commit(),
    }
    Ok(outputs)
}

/// A store that cannot be asked is not the message's fault, unless it says that this key is.
fn unless_permanent(error: BoxError) -> BoxError {
    if Permanent::is(&*error) { error } else { Nack::new(error).into() }
}

/// Another delivery of the same message is being handled, and how that ends is not known yet.
///
/// It is marked with [`Nack`]: the message comes again later, and is neither dead-lettered nor dropped,
/// wherever the [`Deduplicator`] stands and whatever the handler's policy ends with.
#[derive(Debug)]
pub struct InProgress {
    key: String,
}

impl fmt::Display for InProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handle the message: another delivery of {:?} is in progress, try again", self.key)
    }
}

impl Error for InProgress {}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{HandlerInfo, error::find, fixtures::Outcomes};

    fn deduplicator() -> Deduplicator {
        Deduplicator::new(MemoryDeduplicationStore::new(Duration::from_secs(60), 1000))
    }

    /// Counts calls, fails the first `failures` of them, and returns the message.
    fn handler(
        failures: u32,
    ) -> (
        Arc<AtomicU32>,
        impl Service<Message, Response = Outputs, Error = BoxError, Future: Send> + Clone + Send,
    ) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let service = service_fn(move |message: Message| {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(if n < failures { Err("boom".into()) } else { Ok(Outputs::from(message)) })
        });
        (calls, service)
    }

    #[tokio::test]
    async fn a_repeat_is_acked_without_outputs() {
        let (calls, handler) = handler(0);
        let layer = deduplicator();
        for expected in [1, 0, 0] {
            let outputs = layer.layer(handler.clone()).oneshot(Message::with_id("1", "x")).await.unwrap();
            assert_eq!(outputs.len(), expected);
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_message_whose_handler_failed_is_handled_when_it_comes_again() {
        // P3: Go records the key before the handler runs, and acks the redelivery unhandled.
        let (calls, handler) = handler(1);
        let mut service = deduplicator().layer(handler);
        let message = Message::with_id("1", "x");
        service.ready().await.unwrap().call(message.clone()).await.unwrap_err();
        assert_eq!(service.ready().await.unwrap().call(message).await.unwrap().len(), 1);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn two_messages_with_the_same_payload_are_two_messages() {
        // P4: Go's default key is a checksum of the payload.
        let (calls, handler) = handler(0);
        let mut service = deduplicator().layer(handler);
        for id in ["1", "2"] {
            service.ready().await.unwrap().call(Message::with_id(id, "same")).await.unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_message_is_marked_when_it_is_acked_and_not_before() {
        let (calls, handler) = handler(0);
        let layer = deduplicator();
        let handle = async |message: &Message| layer.layer(handler.clone()).oneshot(message.clone()).await;

        // The outputs could not be published, say: the router nacks though the handler is done.
        let (message, settlement) = Outcomes::default().deliver(Message::with_id("1", "x")).split();
        handle(&message).await.unwrap();
        let error = handle(&Message::with_id("1", "x").with_handler(handler_info("bill"))).await.unwrap_err();
        assert!(find::<InProgress>(&*error).is_some(), "handled, but not settled");
        settlement.nack();

        let (message, settlement) = Outcomes::default().deliver(Message::with_id("1", "x")).split();
        assert_eq!(handle(&message).await.unwrap().len(), 1);
        settlement.ack();

        let (message, settlement) = Outcomes::default().deliver(Message::with_id("1", "x")).split();
        assert_eq!(handle(&message).await.unwrap().len(), 0);
        settlement.ack();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn another_try_of_the_same_delivery_is_no_repeat() {
        // A failure policy tries again in place when the outputs of the first try were refused.
        let (calls, handler) = handler(0);
        let layer = deduplicator();
        let (message, settlement) = Outcomes::default().deliver(Message::with_id("1", "x")).split();
        for _ in 0..2 {
            let outputs = layer.layer(handler.clone()).oneshot(message.clone()).await.unwrap();
            assert_eq!(outputs.len(), 1);
        }
        settlement.ack();
        assert_eq!(layer.layer(handler).oneshot(message).await.unwrap().len(), 0);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_repeat_while_the_first_is_in_progress_fails_and_a_dropped_future_sets_the_key_free() {
        let layer = deduplicator();
        let handler = service_fn(async |message: Message| match message.metadata().contains("quick") {
            true => Ok::<_, BoxError>(Outputs::from(message)),
            false => std::future::pending().await,
        });
        let mut service = layer.layer(handler);
        let slow = Message::with_id("1", "x");
        let quick = slow.clone().with_metadata("quick", "");
        let mut running = service.ready().await.unwrap().call(slow);
        assert!(futures::poll!(&mut running).is_pending());
        let error = service.ready().await.unwrap().call(quick.clone()).await.unwrap_err();
        assert!(find::<InProgress>(&*error).is_some());
        drop(running);
        assert_eq!(service.ready().await.unwrap().call(quick).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn handlers_that_share_a_store_do_not_take_each_others_messages_for_repeats() {
        let (calls, handler) = handler(0);
        let layer = deduplicator();
        for name in ["bill", "ship"] {
            let message = Message::with_id("1", "x").with_handler(handler_info(name));
            layer.layer(handler.clone()).oneshot(message).await.unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn keys_can_be_chosen_and_a_message_without_one_is_always_handled() {
        let (calls, handler) = handler(0);
        let mut service = deduplicator().key_from_metadata("order").layer(handler.clone());
        for (order, expected) in
            [(Some("a"), 1), (Some("a"), 1), (Some("b"), 2), (None, 3), (None, 4), (Some(""), 5)]
        {
            let mut message = Message::new("x");
            if let Some(order) = order {
                message.metadata_mut().insert("order", order);
            }
            service.ready().await.unwrap().call(message).await.unwrap();
            assert_eq!(calls.load(Ordering::Relaxed), expected, "{order:?}");
        }
        let mut by_id = deduplicator().layer(handler);
        for expected in [6, 7] {
            by_id.ready().await.unwrap().call(Message::with_id("", "x")).await.unwrap();
            assert_eq!(calls.load(Ordering::Relaxed), expected);
        }
    }

    fn handler_info(name: &str) -> Arc<HandlerInfo> {
        Arc::new(HandlerInfo::consumer(name, "memory", "orders"))
    }
}
