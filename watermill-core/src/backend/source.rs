//! [`Source`]: where the deliveries of one subscription come from, and where their outcomes go.

use std::{any::Any, fmt, sync::Arc, task::Waker};

use async_trait::async_trait;
use tokio::time::Instant;

use super::Handed;
use crate::{
    Delivery, Window,
    delivery::{Facts, Infos, Origin, Outcome, Receipt, Settle, Token},
    error::SubscribeError,
    subscription::SubscriptionStatus,
};

/// A source of deliveries: what a backend implements for each of its subscriptions. A [`Registry`] makes
/// the [`Subscription`](crate::Subscription) of it.
///
/// Most backends need not implement it: [`Shared`](super::Shared) does, over a [`Ledger`](super::Ledger).
/// One whose state lies somewhere else, as the in-memory broker's lies in its topics, implements it itself
/// and has the stream, its timer, the controls and the registry all the same.
///
/// Every verb but [`close`](Self::close) returns at once and may be called from any thread.
///
/// [`Registry`]: super::Registry
#[async_trait]
pub trait Source: Any + Send + Sync {
    /// The next thing on the stream. Where it is [`Next::Sleep`], `waker` is woken once there may be
    /// something; the stream itself waits for the time that comes with it.
    ///
    /// `deliveries` makes the delivery of a message that is handed out.
    fn next(&self, deliveries: &mut DeliveryMaker, waker: &Waker) -> Next;

    /// Takes note of an outcome, as [`Settle::settle`] says.
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>);

    /// Takes note that a delivery was handled, as [`Settle::handled`] says.
    fn handled(&self, token: Token);

    /// Sets how much is handed out. It begins with [`Window::ONE`].
    fn set_window(&self, window: Window);

    /// Ends the stream after what was handed out, and gives back what was not. Called at least once before
    /// `end` and `close`, and again when the stream is dropped.
    fn stop_intake(&self);

    /// The subscription was dropped: what is outstanding is nacked, what is settled from now on does not
    /// count, and what is left to do is done in the background. May be called any number of times.
    fn end(&self);

    /// Ends gracefully: nacks what is unsettled, and returns once every settlement has been recorded, or
    /// with an error after a time that is bounded. May be called any number of times, side by side, after
    /// `end` too.
    async fn close(&self) -> Result<(), SubscribeError>;

    /// Whether it is over, with nothing left to do in the background.
    fn has_ended(&self) -> bool;

    /// How it is doing. Asks nobody.
    fn status(&self) -> SubscriptionStatus;

    /// Whether what was handed out is still its own, by its own clock; see
    /// [`SubscriptionControl::is_owner`](crate::subscription::SubscriptionControl::is_owner).
    fn is_owner(&self) -> bool {
        true
    }
}

/// What a [`Source`] has for its stream.
#[derive(Debug)]
pub enum Next {
    /// A delivery.
    Delivery(Delivery),
    /// Trouble, which its consumer is told of.
    Error(SubscribeError),
    /// Nothing, before this time or before the waker is woken.
    Sleep(Option<Instant>),
    /// Nothing will come any more.
    Ended,
}

/// Makes the deliveries of one subscription, in the memory of those that are over.
pub struct DeliveryMaker(Infos);

impl DeliveryMaker {
    pub(super) fn new(origin: Origin) -> Self {
        Self(Infos::new(origin))
    }

    /// The origin that deliveries are made with.
    pub fn origin(&self) -> &Origin {
        self.0.origin()
    }

    /// The delivery of a message that is handed out. It allocates nothing as long as no more deliveries are
    /// unsettled, or kept, than it remembers: a few dozen.
    #[inline(always)]
    pub fn make(&mut self, handed: Handed) -> Delivery {
        let Handed { token, message, attempt, redelivered, published_at, partition, offset } = handed;
        let attempt = attempt.max(1);
        let facts = || Facts { token, attempt, redelivered, published_at, partition, offset };
        Delivery::new(message, self.0.make(facts))
    }
}

impl fmt::Debug for DeliveryMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryMaker").finish_non_exhaustive()
    }
}

/// The way of outcomes to a source. A [`Registry`](super::Registry) builds the origin of its deliveries with
/// it, so that [`Origin::settler`] finds the source again.
#[derive(Debug)]
pub struct Settler<S>(pub(super) Arc<S>);

impl<S> Settler<S> {
    /// Where its outcomes go.
    pub fn source(&self) -> &Arc<S> {
        &self.0
    }
}

impl<S: Source> Settle for Settler<S> {
    #[inline]
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        self.0.settle(token, outcome, receipt);
    }

    #[inline]
    fn handled(&self, token: Token) {
        self.0.handled(token);
    }
}
