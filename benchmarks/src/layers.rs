//! Layers that do nothing, each as cheaply as its kind can.

use std::task::{Context, Poll};

use tower::{Layer, Service, ServiceExt, util::MapResponse};
use watermill_core::{Message, Outputs};

/// A layer that does nothing.
#[derive(Clone)]
pub(crate) struct NoOp;

pub(crate) struct NoOpService<S>(S);

impl<S> Layer<S> for NoOp {
    type Service = NoOpService<S>;

    fn layer(&self, inner: S) -> NoOpService<S> {
        NoOpService(inner)
    }
}

impl<S: Service<Message>> Service<Message> for NoOpService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> S::Future {
        self.0.call(message)
    }
}

/// A layer that wraps the future of the service inside of it.
#[derive(Clone)]
pub(crate) struct MapOutputs;

impl<S: Service<Message, Response = Outputs>> Layer<S> for MapOutputs {
    type Service = MapResponse<S, fn(Outputs) -> Outputs>;

    fn layer(&self, inner: S) -> Self::Service {
        inner.map_response(|outputs| outputs)
    }
}

/// A layer that boxes its future, as one written with an async block does.
pub(crate) struct Boxed;

pub(crate) struct BoxedService<S>(S);

impl<S> Layer<S> for Boxed {
    type Service = BoxedService<S>;

    fn layer(&self, inner: S) -> BoxedService<S> {
        BoxedService(inner)
    }
}

impl<S: Service<Message, Future: Send + 'static>> Service<Message> for BoxedService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        Box::pin(self.0.call(message))
    }
}
