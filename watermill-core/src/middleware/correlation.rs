//! [`Correlation`]: what one cause set off can be found by one id.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    Message, Outputs,
    message::correlation::{Correlated, CorrelationIds},
    metadata_keys,
};

/// Passes the correlation id of a message on to every message that is made while handling it.
///
/// That is: to what the handler returns, and to every [`Message::new`] inside it, so that messages it
/// publishes itself are correlated too. They also get the id of the handled message as their
/// `causation_id`. What a message carries already stays; an empty entry counts as none.
///
/// A message without a correlation id begins a flow: its own id is taken. A returned message that has
/// the id of the handled one (it was passed on) does not become its own cause.
///
/// The ids reach what is polled as part of the handler. A task that the handler spawns is on its own:
/// make its messages before you spawn it, or copy the metadata.
///
/// ```
/// use tower::{Layer, Service, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::Correlation};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::from(Message::new("invoice"))));
/// let mut handler = Correlation::new().layer(handler);
///
/// let order = Message::new("order").with_metadata("correlation_id", "checkout-7");
/// let outputs = handler.ready().await?.call(order).await?;
/// assert_eq!(outputs.messages()[0].metadata().get("correlation_id"), Some("checkout-7"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Correlation;

impl Correlation {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for Correlation {
    type Service = CorrelationService<S>;

    fn layer(&self, inner: S) -> CorrelationService<S> {
        CorrelationService { inner }
    }
}

/// The service that [`Correlation`] makes.
#[derive(Clone, Debug)]
pub struct CorrelationService<S> {
    inner: S,
}

impl<S> Service<Message> for CorrelationService<S>
where
    S: Service<Message, Response = Outputs>,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = CorrelationFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        CorrelationFuture { inner: Correlated::new(ids(&message), || self.inner.call(message)) }
    }
}

pin_project! {
    /// A handler's future whose new messages are correlated.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct CorrelationFuture<F> {
        #[pin]
        inner: Correlated<F>,
    }
}

impl<F, E> Future for CorrelationFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
{
    type Output = Result<Outputs, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut result = ready!(this.inner.as_mut().poll(cx));
        if let (Ok(outputs), Some(ids)) = (&mut result, this.inner.ids()) {
            for message in outputs.iter_mut() {
                correlate(message, ids);
            }
        }
        Poll::Ready(result)
    }
}

/// `None` for a message that has nothing to be recognised by.
fn ids(message: &Message) -> Option<CorrelationIds> {
    let carried = message.metadata().get(metadata_keys::CORRELATION_ID).filter(|id| !id.is_empty());
    let correlation = carried.map_or_else(|| message.id().clone(), Into::into);
    (!correlation.is_empty()).then(|| CorrelationIds { correlation, causation: message.id().clone() })
}

fn correlate(message: &mut Message, ids: &CorrelationIds) {
    if *message.id() == ids.causation {
        let caused_by_itself = CorrelationIds { causation: "".into(), ..ids.clone() };
        caused_by_itself.apply(message.metadata_mut());
    } else {
        ids.apply(message.metadata_mut());
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{PublisherExt, error::BoxError, fixtures::RecordingPublisher};

    fn order() -> Message {
        Message::with_id("order-1", "x").with_metadata("correlation_id", "c")
    }

    fn ids_of(message: &Message) -> (Option<&str>, Option<&str>) {
        (message.metadata().get("correlation_id"), message.metadata().get("causation_id"))
    }

    /// Handles `message` with `handle` under the layer.
    async fn run<H, F>(message: Message, handle: H) -> Result<Outputs, BoxError>
    where
        H: FnMut(Message) -> F,
        F: Future<Output = Result<Outputs, BoxError>>,
    {
        Correlation::new().layer(service_fn(handle)).oneshot(message).await
    }

    #[tokio::test]
    async fn every_returned_message_takes_over_the_ids() {
        let outputs = run(order(), async |_| {
            let mut outputs = Outputs::from(vec![Message::new("a"), Message::with_id("given", "b")]);
            outputs.push_to("elsewhere", Message::with_id("addressed", "c"));
            Ok(outputs)
        });
        for message in outputs.await.unwrap().iter_mut() {
            assert_eq!(ids_of(message), (Some("c"), Some("order-1")), "{message:?}");
        }
    }

    #[tokio::test]
    async fn messages_published_inside_the_handler_take_over_the_ids() {
        // Go correlates returned messages only, so consuming handlers and buses break the chain.
        let publisher = RecordingPublisher::default();
        let handle = {
            let publisher = publisher.clone();
            move |_| {
                let made_before_the_future = Message::new("first");
                let publisher = publisher.clone();
                async move {
                    publisher.publish_one("t", made_before_the_future).await?;
                    tokio::task::yield_now().await;
                    publisher.publish_one("t", Message::new("second")).await?;
                    Err("fails in the end".into())
                }
            }
        };
        run(order(), handle).await.unwrap_err();
        let calls = publisher.calls();
        assert_eq!(calls.len(), 2);
        for (_, messages) in calls {
            assert_eq!(ids_of(&messages[0]), (Some("c"), Some("order-1")));
        }
    }

    #[tokio::test]
    async fn nothing_leaks_out_of_the_handler() {
        let message = order();
        let mut handler = Correlation::new().layer(service_fn(async |_: Message| {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(Outputs::none())
        }));
        let mut running = Box::pin(handler.ready().await.unwrap().call(message));
        assert!(futures::poll!(&mut running).is_pending());
        assert_eq!(ids_of(&Message::new("outside")), (None, None));
        running.await.unwrap();
        assert_eq!(ids_of(&Message::new("outside")), (None, None));
    }

    #[tokio::test]
    async fn a_panic_in_the_handler_leaves_no_ids_behind() {
        let handled = run(order(), async |_| panic!("boom"));
        crate::panic::CatchPanic::new(|| handled).await.unwrap_err();
        assert_eq!(ids_of(&Message::new("outside")), (None, None));
    }

    #[tokio::test]
    async fn ids_that_are_set_already_stay_and_empty_ones_do_not() {
        // Go counts the empty id as set.
        let own = Message::new("a").with_metadata("correlation_id", "own").with_metadata("causation_id", "");
        let empty = Message::new("b").with_metadata("correlation_id", "");
        let outputs = run(order(), |_| {
            let outputs = vec![own.clone(), empty.clone()];
            async move { Ok(outputs.into()) }
        });
        let outputs = outputs.await.unwrap();
        assert_eq!(ids_of(&outputs.messages()[0]), (Some("own"), Some("order-1")));
        assert_eq!(ids_of(&outputs.messages()[1]), (Some("c"), Some("order-1")));
    }

    #[tokio::test]
    async fn a_message_without_a_correlation_id_begins_a_flow_with_its_own_id() {
        for first in
            [Message::with_id("1", "x"), Message::with_id("1", "x").with_metadata("correlation_id", "")]
        {
            let outputs = run(first, async |_| Ok(Message::new("y").into())).await.unwrap();
            assert_eq!(ids_of(&outputs.messages()[0]), (Some("1"), Some("1")));
        }
        let nameless = run(Message::with_id("", "x"), async |_| Ok(Message::new("y").into())).await.unwrap();
        assert_eq!(ids_of(&nameless.messages()[0]), (None, None));
    }

    #[tokio::test]
    async fn a_message_that_is_passed_on_is_not_its_own_cause() {
        let outputs = run(Message::with_id("1", "x"), async |message| Ok(message.into())).await.unwrap();
        assert_eq!(ids_of(&outputs.messages()[0]), (Some("1"), None));
    }
}
