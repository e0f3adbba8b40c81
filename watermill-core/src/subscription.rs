//! [`Subscription`]: a stream of deliveries, and the controls beside it.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
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

/// How many deliveries a subscription hands out.
///
/// Two bounds. In each ordering scope at most [`per_scope`](Self::per_scope) are *being handled*: handed out,
/// not settled, and not said to be [handled](crate::Settlement::handled). Over all scopes at most
/// [`total`](Self::total) are *outstanding*: handed out and not settled. What neither lets through stays in
/// the subscription, where it is free for others when intake stops. A backend derives its prefetch, its flow
/// control or its limit of pending acks from the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    per_scope: NonZeroUsize,
    total: NonZeroUsize,
    ordered: bool,
}

/// How a subscription is doing, for a health page. What a backend does not know, it leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// The topic subscribed to.
    pub topic: String,
    /// The consumer group.
    pub group: Option<String>,
    /// Whether it gets on.
    pub health: Health,
    /// Whether it is this one to which messages come: not while another owner has them, nor while there is no connection. One that
    /// is degraded may be all the same, by what it can do without, or as long as what it owns is its own.
    pub active: bool,
    /// How many deliveries are handed out and not settled.
    pub outstanding: usize,
    /// How many messages the group has not settled, outstanding ones included, as far as this subscription
    /// reads them and as it was last measured.
    pub lag: Option<u64>,
    /// How long ago the oldest message was published that the group has not settled, as it was last measured.
    pub oldest_unsettled: Option<Duration>,
    /// Who keeps this subscription from reading on, in words: another owner, somebody's open transaction.
    pub held_back_by: Option<String>,
}

/// Whether a subscription gets on.
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

    /// How it is doing. Never blocks and asks nobody: what was learned last.
    fn status(&self) -> SubscriptionStatus;

    /// Whether what it has handed out is still its own, by its own clock: false while a lease is over that was not renewed,
    /// though nobody may have noticed yet, because the process was stopped or the server does not answer. By default true.
    fn is_owner(&self) -> bool {
        true
    }
}

impl Subscription {
    /// Puts a subscription together; for backends.
    pub fn new(
        stream: impl Stream<Item = Result<Delivery, SubscribeError>> + Send + 'static,
        control: impl SubscriptionControl + 'static,
    ) -> Self {
        Self { stream: stream.boxed(), control: Arc::new(control) }
    }

    /// Sets how many deliveries are handed out. It begins with [`Window::ONE`]; a backend without order may
    /// hand out more from the start.
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
    pub fn status(&self) -> SubscriptionStatus {
        self.control.status()
    }

    /// The controls, to look at the subscription while its stream is in use. They do not keep it running.
    pub fn control(&self) -> Arc<dyn SubscriptionControl> {
        self.control.clone()
    }

    /// Takes the subscription apart, for wrappers that put another stream or other controls in the place of
    /// its own: [`new`](Self::new) joins them again. The subscription ends when its stream and the last of
    /// its controls are dropped.
    pub fn into_parts(
        self,
    ) -> (BoxStream<'static, Result<Delivery, SubscribeError>>, Arc<dyn SubscriptionControl>) {
        (self.stream, self.control)
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
        f.debug_struct("Subscription").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Window {
    /// One at a time in each scope, in order.
    pub const ONE: Self = Self::ordered(NonZeroUsize::MIN);

    /// What [`total`](Self::total) is unless set: enough for hundreds of scopes.
    pub const TOTAL_DEFAULT: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

    /// Up to `per_scope` being handled at once, handed out in order; a nacked one comes again before any
    /// later one of its scope that was not handed out yet.
    pub const fn ordered(per_scope: NonZeroUsize) -> Self {
        Self::new(per_scope, true)
    }

    /// Up to `per_scope` being handled at once; a nacked one holds nothing up.
    pub const fn unordered(per_scope: NonZeroUsize) -> Self {
        Self::new(per_scope, false)
    }

    const fn new(per_scope: NonZeroUsize, ordered: bool) -> Self {
        let total = if per_scope.get() > Self::TOTAL_DEFAULT.get() { per_scope } else { Self::TOTAL_DEFAULT };
        Self { per_scope, total, ordered }
    }

    /// Sets how many may be outstanding in all scopes together: 1,000 unless set, or `per_scope` where that
    /// is more.
    #[must_use]
    pub const fn with_total(mut self, total: NonZeroUsize) -> Self {
        self.total = total;
        self
    }

    /// How many may be handled at once in each scope.
    pub const fn per_scope(self) -> usize {
        self.per_scope.get()
    }

    /// How many may be outstanding in all scopes together.
    pub const fn total(self) -> usize {
        self.total.get()
    }

    /// Whether a nacked delivery holds up later ones of its scope.
    pub const fn is_ordered(self) -> bool {
        self.ordered
    }
}

impl SubscriptionStatus {
    /// A subscription that is doing as `health` says, active if that is well, and of which nothing else is known; for backends.
    pub fn new(topic: impl Into<String>, health: Health) -> Self {
        Self {
            topic: topic.into(),
            group: None,
            active: health == Health::Healthy,
            health,
            outstanding: 0,
            lag: None,
            oldest_unsettled: None,
            held_back_by: None,
        }
    }

    /// Sets [`group`](Self::group).
    #[must_use]
    pub fn group(mut self, group: Option<impl Into<String>>) -> Self {
        self.group = group.map(Into::into);
        self
    }

    /// Sets [`active`](Self::active).
    #[must_use]
    pub fn active(mut self, active: bool) -> Self {
        self.active = active;
        self
    }

    /// Sets [`outstanding`](Self::outstanding).
    #[must_use]
    pub fn outstanding(mut self, outstanding: usize) -> Self {
        self.outstanding = outstanding;
        self
    }

    /// Sets [`lag`](Self::lag).
    #[must_use]
    pub fn lag(mut self, lag: Option<u64>) -> Self {
        self.lag = lag;
        self
    }

    /// Sets [`oldest_unsettled`](Self::oldest_unsettled).
    #[must_use]
    pub fn oldest_unsettled(mut self, age: Option<Duration>) -> Self {
        self.oldest_unsettled = age;
        self
    }

    /// Sets [`held_back_by`](Self::held_back_by).
    #[must_use]
    pub fn held_back_by(mut self, holder: Option<impl Into<String>>) -> Self {
        self.held_back_by = holder.map(Into::into);
        self
    }
}
