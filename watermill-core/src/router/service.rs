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

/// Something that becomes a service once the router's state is known.
#[diagnostic::on_unimplemented(
    message = "the handler needs another state than this router's, which is `{S}`",
    note = "call `Router::with_state` before `add`; a handler may take the whole state or, with `FromRef`, a part of it"
)]
pub trait MakeService<S> {
    /// [`Nothing`](super::Nothing), [`Messages`](super::Messages) or [`Addressed`](super::Addressed).
    type Kind;

    /// The service it becomes.
    type Service: MessageService;

    /// Makes the service.
    fn make_service(self, state: S) -> Self::Service;
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
