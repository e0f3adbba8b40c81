//! [`Subscription`]: a stream of deliveries, and the controls beside it.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream::BoxStream};

use crate::{Delivery, error::SubscribeError};

/// A running subscription: a [`Stream`] of deliveries.
///
/// Dropping it ends it and nacks what is outstanding. [`close`](Self::close) ends it gracefully:
///
/// ```
/// # use futures::StreamExt;
/// # async fn run(mut subscription: watermill_core::Subscription) -> Result<(), watermill_core::error::SubscribeError> {
/// while let Some(delivery) = subscription.next().await {
///     let delivery = delivery?;
///     println!("{}", delivery.id());
///     delivery.ack();
/// }
/// subscription.close().await
/// # }
/// ```
#[must_use = "a subscription that is dropped ends"]
pub struct Subscription {
    stream: BoxStream<'static, Result<Delivery, SubscribeError>>,
    control: Arc<dyn SubscriptionControl>,
}

/// How many deliveries may be outstanding (handed out and not settled) in each ordering scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: NonZeroUsize,
    ordered: bool,
}

/// The state of a subscription, for a health page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Connected, as far as is known.
    Healthy,
    /// Not connected or not allowed to read just now; it is trying to mend that.
    Degraded {
        /// The last error, or who is waited for.
        reason: String,
    },
    /// It has ended.
    Ended,
}

/// What a backend implements beside the stream.
#[async_trait]
pub trait SubscriptionControl: Send + Sync {
    /// Changes the window, from the next delivery on.
    fn set_window(&self, window: Window);

    /// Ends the stream after what was handed out; what was fetched ahead is given back. Deliveries
    /// that are out can still be settled.
    fn stop_intake(&self);

    /// Stops intake, nacks what is still unsettled, and waits until every settlement is recorded.
    async fn close(&self) -> Result<(), SubscribeError>;

    /// How it is doing.
    fn health(&self) -> Health;
}

impl Subscription {
    /// Puts a subscription together; for backends.
    pub fn new(
        stream: impl Stream<Item = Result<Delivery, SubscribeError>> + Send + 'static,
        control: impl SubscriptionControl + 'static,
    ) -> Self {
        Self { stream: stream.boxed(), control: Arc::new(control) }
    }

    /// Sets how many deliveries may be outstanding in each ordering scope. It begins with
    /// [`Window::ONE`]; a backend without order may hand out more from the start.
    pub fn set_window(&self, window: Window) {
        self.control.set_window(window);
    }

    /// Stops taking messages: the stream ends, and deliveries that are out can still be settled.
    pub fn stop_intake(&self) {
        self.control.stop_intake();
    }

    /// Ends the subscription gracefully: intake stops, what is still unsettled is nacked, and every
    /// settlement has been recorded when this returns. Acked messages are not delivered again.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] when settlements could not be recorded; those messages will be delivered
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the subscription: settlements not yet recorded may be lost, and
    /// their messages delivered again.
    pub async fn close(self) -> Result<(), SubscribeError> {
        self.control.stop_intake();
        // The stream goes first: what it has fetched and not handed out is free for others.
        drop(self.stream);
        self.control.close().await
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.control.health()
    }

    /// The controls, to look at the subscription while its stream is in use.
    pub(crate) fn control(&self) -> Arc<dyn SubscriptionControl> {
        self.control.clone()
    }

    /// Changes every delivery that passes; for wrappers.
    pub fn map_stream<S>(
        self,
        wrap: impl FnOnce(BoxStream<'static, Result<Delivery, SubscribeError>>) -> S,
    ) -> Self
    where
        S: Stream<Item = Result<Delivery, SubscribeError>> + Send + 'static,
    {
        Self { stream: wrap(self.stream).boxed(), control: self.control }
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Window {
    /// One at a time, in order.
    pub const ONE: Self = Self { size: NonZeroUsize::MIN, ordered: true };

    /// Up to `size` at once, handed out in order; a nacked one comes again before any later one that
    /// was not handed out yet.
    pub const fn ordered(size: NonZeroUsize) -> Self {
        Self { size, ordered: true }
    }

    /// Up to `size` at once; a nacked one holds nothing up.
    pub const fn unordered(size: NonZeroUsize) -> Self {
        Self { size, ordered: false }
    }

    /// How many.
    pub const fn size(self) -> usize {
        self.size.get()
    }

    /// Whether a nacked delivery holds up later ones.
    pub const fn is_ordered(self) -> bool {
        self.ordered
    }
}
