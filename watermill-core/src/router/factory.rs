//! [`Factory`]: makes the service of a handler, and another one when that has failed.

use std::sync::Arc;

use tower::Layer;

use super::{MakeService, MessageService, boxed::BoxedService};

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

/// Makes boxed services.
pub(super) struct BoxedFactory(Box<dyn FnMut() -> Option<BoxedService> + Send>);

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

impl BoxedFactory {
    pub(super) fn new<F>(mut factory: F) -> Self
    where
        F: Factory,
        F::Service: Clone,
    {
        Self(Box::new(move || factory.make().map(BoxedService::new)))
    }
}

impl Factory for BoxedFactory {
    type Service = BoxedService;

    fn make(&mut self) -> Option<BoxedService> {
        (self.0)()
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
