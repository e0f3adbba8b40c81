//! The bounds of a service that a router can run, under one name.

use tower::Service;

use super::Outputs;
use crate::{Message, error::BoxError};

/// A [`tower::Service`] of messages: what a handler is, with or without layers around it.
///
/// Implemented for everything that fits; it only gives the bounds a name.
pub trait MessageService:
    Service<Message, Response = Outputs, Error: Into<BoxError>, Future: Send + 'static> + Send + 'static
{
}

impl<S> MessageService for S
where
    S: Service<Message, Response = Outputs> + Send + 'static,
    S::Error: Into<BoxError>,
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
