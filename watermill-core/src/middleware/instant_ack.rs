//! [`InstantAck`]: acks before the handler runs.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::{Message, Outputs};

/// Acks a message before the handler sees it: **at most once**.
///
/// What fails, or is in progress when the process dies, is lost: the backend has forgotten the
/// message, and a nack that follows is not passed on. Layers outside that try again or dead-letter
/// still work while the process lives.
///
/// The router's concurrency bounds how many messages are handled at once, as ever.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::InstantAck};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let gauge = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// InstantAck::new().layer(gauge).oneshot(Message::new("21.5")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct InstantAck;

impl InstantAck {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

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

impl<S> Service<Message> for InstantAckService<S>
where
    S: Service<Message, Response = Outputs>,
{
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

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{delivery::Outcome, error::BoxError, fixtures::Outcomes};

    #[tokio::test]
    async fn the_message_is_acked_before_the_handler_runs_and_a_later_nack_does_not_count() {
        let outcomes = Outcomes::default();
        let (message, settlement) = outcomes.deliver(Message::new("x")).split();
        let seen = outcomes.clone();
        let handler = service_fn(move |_: Message| {
            let acked = seen.all() == [Outcome::Ack];
            async move { if acked { Err::<Outputs, BoxError>("too late".into()) } else { Ok(Outputs::none()) } }
        });
        InstantAck::new().layer(handler).oneshot(message).await.unwrap_err();
        settlement.nack();
        assert_eq!(outcomes.all(), [Outcome::Ack]);
    }
}
