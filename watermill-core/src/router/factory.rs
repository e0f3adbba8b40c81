//! [`Factory`]: makes the service of a handler, and another one when that has failed.

use std::sync::Arc;

use tower::{Layer, ServiceExt, util::BoxCloneService};

use super::{
    MakeService, MessageService, Outputs,
    runner::{Run, Runner},
};
use crate::{Message, error::BoxError};

/// Makes the services of one handler, its layers included.
pub(super) trait Factory: Send + 'static {
    type Service: MessageService;

    /// `None` when there is no other service.
    fn make(&mut self) -> Option<Self::Service>;
}

/// The innermost service, from the handler's function and the router's state.
pub(super) struct WithState<M, S> {
    pub(super) make: M,
    pub(super) state: S,
}

/// A layer around whatever is made inside.
pub(super) struct Layered<F, L> {
    pub(super) inner: F,
    pub(super) layer: L,
}

/// A service whose type is not known any more: what is put around a set of [`Handlers`](crate::router::Handlers)
/// wraps this. It costs a boxed future a message.
pub type BoxedService = BoxCloneService<Message, Outputs, BoxError>;

/// Makes boxed services.
pub(super) struct BoxedFactory(Box<dyn FnMut() -> Option<BoxedService> + Send>);

/// A factory of a handler in a set: it becomes a runner as it is, or boxed, to go into other layers.
pub(super) trait AnyFactory: Send {
    fn into_runner(self: Box<Self>) -> Box<dyn Run>;

    fn into_boxed(self: Box<Self>) -> BoxedFactory;
}

impl<M, S> Factory for WithState<M, S>
where
    M: MakeService<S>,
    S: Clone + Send + 'static,
{
    type Service = M::Service;

    fn make(&mut self) -> Option<M::Service> {
        self.make.make_service(self.state.clone())
    }
}

impl<F, L> Factory for Layered<F, L>
where
    F: Factory,
    L: Layer<F::Service> + Send + 'static,
    L::Service: MessageService,
{
    type Service = L::Service;

    fn make(&mut self) -> Option<L::Service> {
        Some(self.layer.layer(self.inner.make()?))
    }
}

impl Factory for BoxedFactory {
    type Service = BoxedService;

    fn make(&mut self) -> Option<BoxedService> {
        (self.0)()
    }
}

impl<F> AnyFactory for F
where
    F: Factory,
    F::Service: Clone,
{
    fn into_runner(self: Box<Self>) -> Box<dyn Run> {
        Box::new(Runner::new(*self))
    }

    fn into_boxed(mut self: Box<Self>) -> BoxedFactory {
        BoxedFactory(Box::new(move || Some(BoxCloneService::new(self.make()?.map_err(Into::into)))))
    }
}

/// A layer that a router, or a set of handlers, has around many handlers; no layer needs to be `Clone`.
#[derive(Debug)]
pub struct SharedLayer<L>(Arc<L>);

impl<L> SharedLayer<L> {
    pub(super) fn new(layer: L) -> Self {
        Self(Arc::new(layer))
    }
}

impl<L: Layer<S>, S> Layer<S> for SharedLayer<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

impl<L> Clone for SharedLayer<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
