//! The bounds of a service that a router can run, under one name.

use tower::Service;

use super::{HandlerError, Outputs};
use crate::Message;

/// A [`tower::Service`] of messages: what a handler is, with or without layers around it.
///
/// Implemented for everything that fits; it only gives the bounds a name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages",
    label = "not a `tower::Service<Message>`",
    note = "the outermost layer's service is a `tower::Service<Message, Response = Outputs>`",
    note = "a layer of your own passes the message on and returns the `Outputs` of the service inside of it"
)]
pub trait MessageService:
    Service<Message, Response = Outputs, Error: HandlerError, Future: Send + 'static> + Send + 'static
{
}

impl<S> MessageService for S
where
    S: Service<Message, Response = Outputs> + Send + 'static,
    S::Error: HandlerError,
    S::Future: Send + 'static,
{
}

/// Something that becomes a service once the router's state is known: what
/// [`Handler::make`](crate::Handler::make) takes.
///
/// [`HandlerService`](super::HandlerService) turns a function and the state into a service. Here its messages
/// are counted around it, and what the function returns still decides which destinations the compiler accepts:
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use tower::{ServiceExt, util::MapRequest};
/// use watermill_core::{
///     Handler, Json, MemoryBroker, Message, Router, State,
///     router::{HandlerFn, HandlerService, MakeService},
/// };
///
/// /// Any handler function, with a count of its messages.
/// struct Counted<F, Args>(F, Arc<AtomicU64>, std::marker::PhantomData<fn() -> Args>);
///
/// type Count = Box<dyn FnMut(Message) -> Message + Send>;
///
/// impl<F, Args, S> MakeService<S> for Counted<F, Args>
/// where
///     F: HandlerFn<Args, S>,
///     Args: 'static,
///     S: Clone + Send + 'static,
/// {
///     type Kind = F::Kind;
///     type Service = MapRequest<HandlerService<F, Args, S>, Count>;
///
///     fn make_service(&mut self, state: S) -> Option<Self::Service> {
///         let count = self.1.clone();
///         Some(HandlerService::new(self.0.clone(), state).map_request(Box::new(move |message| {
///             count.fetch_add(1, Ordering::Relaxed);
///             message
///         })))
///     }
/// }
///
/// async fn price(State(cents): State<u32>, Json(pieces): Json<u32>) -> Json<u32> {
///     Json(pieces * cents)
/// }
///
/// let (broker, count) = (MemoryBroker::new(), Arc::default());
/// let router = Router::new().with_state(250_u32).add(
///     Handler::make("price", Counted(price, count, std::marker::PhantomData))
///         .from(broker.subscriber(), "orders")
///         .to(broker.publisher(), "prices"),
/// );
/// ```
#[diagnostic::on_unimplemented(
    message = "the handler needs another state than this router's, which is `{S}`",
    note = "call `Router::with_state` before `add`; a handler may take the whole state or, with `FromRef`, a part of it"
)]
pub trait MakeService<S>: Send + 'static {
    /// [`Nothing`](super::types::Nothing), [`Messages`](super::types::Messages),
    /// [`Addressed`](super::types::Addressed), or [`Unknown`](super::types::Unknown), which fits every
    /// destination.
    type Kind;

    /// The service it becomes.
    type Service: MessageService;

    /// Makes the service: when the handler is added, and again when the handler is restarted because its
    /// service failed or panicked. `None` when there is no other; then the handler ends.
    fn make_service(&mut self, state: S) -> Option<Self::Service>;
}

/// The router's state, where a handler needs the state `S`: they are the same.
#[diagnostic::on_unimplemented(
    message = "the handler takes its state from `{S}`, and the router's state is `{Self}`",
    label = "a handler for another state",
    note = "give the router its state before handlers are added: `Router::new().with_state(..)`",
    note = "a handler may also take a part of the router's state: implement `FromRef<{Self}>` for it"
)]
pub trait RouterState<S> {
    /// The state.
    fn into_state(self) -> S;
}

impl<S> RouterState<S> for S {
    fn into_state(self) -> S {
        self
    }
}
