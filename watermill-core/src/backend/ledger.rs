//! [`Ledger`]: what one subscription has in hand.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{
    Message, Window,
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

/// A delay too long to be added up is as good as this: a lifetime.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 60 * 60);

/// The messages that one subscription has in hand, from their arrival until they are settled and that is
/// recorded: a state machine without I/O and without a clock, which [`Shared`](super::Shared) guards.
///
/// A message is *fresh* when it has come and was never handed out, *outstanding* while it is handed out, and
/// *unrecorded* once it is settled, until the backend's task has told the server. How a message comes in
/// and how its outcome leaves again is each ledger's own; see [`ById`](super::ById) and
/// [`ByPosition`](super::ByPosition).
pub trait Ledger: Send + 'static {
    /// The next message to hand out that the window lets through, or when there may be one if nothing else
    /// happens.
    fn next(&mut self, now: Instant) -> Offer;

    /// Takes note of an outcome. False, and the receipt completed with [`SettleError::lost`], when the token
    /// names nothing outstanding.
    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool;

    /// Takes note that a delivery was handled and waits for its outputs. False when that is no news.
    fn handled(&mut self, token: Token) -> bool;

    /// Sets how much is handed out. It begins with [`Window::ONE`].
    fn set_window(&mut self, window: Window);

    /// Whether more messages are to be fetched.
    fn wants_more(&self) -> bool;

    /// How many deliveries are outstanding.
    fn outstanding(&self) -> usize;

    /// Names what is outstanding.
    fn tokens(&self) -> Vec<Token>;

    /// What is settled and not recorded yet.
    fn unrecorded(&self) -> Unrecorded;

    /// Nacks what is outstanding and lets go of what is fresh: the end of a graceful stop. What is settled
    /// after this is too late.
    fn give_back(&mut self, now: Instant);

    /// Nothing in hand is ours any more: it is forgotten, with what is unrecorded, and whoever waits for a
    /// receipt hears `why`.
    fn lose(&mut self, why: fn() -> SettleError);

    /// How many messages the group has not settled, where that is known without asking.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// When the oldest message in hand was published, where that is known.
    fn oldest(&self) -> Option<SystemTime> {
        None
    }
}

/// What a [`Ledger`] has to hand out.
#[derive(Debug)]
pub enum Offer {
    /// A message.
    Handed(Handed),
    /// None, before this time or before something happens.
    Nothing(Option<Instant>),
}

/// A message that is handed out.
#[derive(Debug)]
#[non_exhaustive]
pub struct Handed {
    /// Names the delivery.
    pub token: Token,
    /// The message.
    pub message: Message,
    /// Which delivery of it to its group this is, from 1, as far as that is known.
    pub attempt: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// When it was published, by the server's clock.
    pub published_at: Option<SystemTime>,
    /// Its partition, where there are partitions.
    pub partition: Option<i32>,
    /// Its offset, where there are offsets.
    pub offset: Option<i64>,
}

/// What is settled and not recorded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrecorded {
    /// How many.
    pub count: usize,
    /// Since when there is something, or there was when it was last tried.
    pub since: Option<Instant>,
    /// Whether somebody waits for it.
    pub awaited: bool,
}

impl Handed {
    /// A message that is delivered for the first time, as far as is known.
    #[inline]
    pub fn new(token: Token, message: Message) -> Self {
        Self {
            token,
            message,
            attempt: 1,
            redelivered: false,
            published_at: None,
            partition: None,
            offset: None,
        }
    }

    /// Sets [`attempt`](Self::attempt).
    #[must_use]
    #[inline]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets [`redelivered`](Self::redelivered).
    #[must_use]
    #[inline]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Sets [`published_at`](Self::published_at).
    #[must_use]
    #[inline]
    pub fn published_at(mut self, published_at: Option<SystemTime>) -> Self {
        self.published_at = published_at;
        self
    }

    /// Sets [`partition`](Self::partition).
    #[must_use]
    #[inline]
    pub fn partition(mut self, partition: Option<i32>) -> Self {
        self.partition = partition;
        self
    }

    /// Sets [`offset`](Self::offset).
    #[must_use]
    #[inline]
    pub fn offset(mut self, offset: Option<i64>) -> Self {
        self.offset = offset;
        self
    }
}

/// Completes a receipt, if there is one.
pub(super) fn complete(receipt: Option<Receipt>, result: Result<(), SettleError>) {
    if let Some(receipt) = receipt {
        receipt.complete(result);
    }
}
