//! [`InstantAck`]: acks before the handler runs.

use std::task::{Context, Poll};

use tower::{Layer, Service};
use watermill_core::{Message, Outputs};

/// Acks a message before the handler sees it: at most once.
#[derive(Clone, Copy, Debug)]
pub struct InstantAck;

impl<S> Layer<S> for InstantAck {
    type Service = InstantAckService<S>;

    fn layer(&self, inner: S) -> InstantAckService<S> {
        InstantAckService { inner }
    }
}

/// The service that [`InstantAck`] makes.
#[derive(Clone, Debug)]
pub struct InstantAckService<S> {
    inner: S,
}

impl<S: Service<Message, Response = Outputs>> Service<Message> for InstantAckService<S> {
    type Response = Outputs;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> S::Future {
        if let Some(delivery) = message.delivery() {
            delivery.ack_early();
        }
        self.inner.call(message)
    }
}
