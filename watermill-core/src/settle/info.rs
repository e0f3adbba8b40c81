//! [`DeliveryInfo`]: how a message came.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    origin::Origin,
    outcome::{Outcome, Receipt, Token},
};

/// How a copy of a message was delivered: typed facts, filled by every backend that has them. Clones share them.
#[derive(Clone)]
pub struct DeliveryInfo(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    origin: Origin,
    facts: Facts,
}

/// What is known of a delivery.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) token: Token,
    /// From 1.
    pub(crate) attempt: u32,
    /// Beside what the attempt says.
    pub(crate) redelivered: bool,
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
}

/// The infos of a subscription's deliveries, in the memory of those that are over: a delivery costs no allocation and
/// no count of the origin.
pub(crate) struct Infos {
    origin: Origin,
    /// Those that were made, used again one after another.
    made: Vec<DeliveryInfo>,
    /// Whose turn is next.
    next: usize,
}

/// How many infos are used again: as many as are outstanding in a busy subscription. They take some kilobytes.
const MADE_MAX: usize = 64;

impl Infos {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, made: Vec::new(), next: 0 }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The info of a delivery of which these are the facts. They are made in their place: to move them takes as long
    /// as to make them.
    #[inline(always)]
    pub(crate) fn make(&mut self, facts: impl FnOnce() -> Facts) -> DeliveryInfo {
        if let Some(info) = self.made.get_mut(self.next)
            && let Some(inner) = Arc::get_mut(&mut info.0)
        {
            inner.facts = facts();
            let info = info.clone();
            self.next = if self.next + 1 < self.made.len() { self.next + 1 } else { 0 };
            return info;
        }
        let info = DeliveryInfo(Arc::new(Inner { origin: self.origin.clone(), facts: facts() }));
        self.remember(&info);
        info
    }

    /// The one whose turn it was is not over yet, or kept by somebody for good: it is passed over.
    #[inline(never)]
    fn remember(&mut self, info: &DeliveryInfo) {
        if self.made.len() < MADE_MAX {
            self.made.push(info.clone());
        } else {
            self.made[self.next] = info.clone();
        }
        self.next = (self.next + 1) % self.made.len();
    }
}

impl DeliveryInfo {
    /// The first delivery named by `token`; for backends.
    pub fn new(origin: Origin, token: Token) -> Self {
        let facts = Facts {
            token,
            attempt: 1,
            redelivered: false,
            published_at: None,
            partition: None,
            offset: None,
        };
        Self(Arc::new(Inner { origin, facts }))
    }

    /// Sets the attempt, from 1; more than one means redelivered.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.facts_mut().attempt = attempt.max(1);
        self
    }

    /// Says that the backend may have delivered this message before, even if it cannot count. What is
    /// attempted more than once is redelivered, whatever is said here.
    #[must_use]
    pub fn with_redelivered(mut self, redelivered: bool) -> Self {
        self.facts_mut().redelivered = redelivered;
        self
    }

    /// Sets the time of publishing.
    #[must_use]
    pub fn with_published_at(mut self, published_at: Option<SystemTime>) -> Self {
        self.facts_mut().published_at = published_at;
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.facts_mut().partition = Some(partition);
        self
    }

    /// Sets the offset.
    #[must_use]
    pub fn with_offset(mut self, offset: i64) -> Self {
        self.facts_mut().offset = Some(offset);
        self
    }

    /// The subscription it came from.
    #[inline]
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The topic it was received on.
    pub fn topic(&self) -> &str {
        self.origin().topic()
    }

    /// The consumer group it was received for.
    pub fn group(&self) -> Option<&str> {
        self.origin().group()
    }

    /// Its place: within a scope, deliveries come in order.
    #[inline]
    pub fn token(&self) -> Token {
        self.0.facts.token
    }

    /// Which delivery of this message to this group this is, from 1, as far as the backend can count; where it
    /// cannot, the router counts in its own memory.
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.0.facts.attempt
    }

    /// Whether the message may have been delivered before.
    pub fn redelivered(&self) -> bool {
        self.0.facts.redelivered || self.0.facts.attempt > 1
    }

    /// When it was published, by the backend's clock.
    pub fn published_at(&self) -> Option<SystemTime> {
        self.0.facts.published_at
    }

    /// The partition it came from, where the backend has them.
    pub fn partition(&self) -> Option<i32> {
        self.0.facts.partition
    }

    /// Its offset in the partition or log, where the backend has them.
    pub fn offset(&self) -> Option<i64> {
        self.0.facts.offset
    }

    /// A token that is cancelled when this delivery is settled, or when the subscription loses it (a
    /// lost lease, a revoked partition): work done for it afterwards is done in vain.
    ///
    /// Ask for it while the delivery is unsettled, inside the handler for instance; asked for after it
    /// was settled, it is cancelled only when the subscription ends.
    pub fn cancellation(&self) -> CancellationToken {
        self.origin().watch(self.token())
    }

    /// Whether the subscription has lost this delivery (a lost lease, a revoked partition): what is done for
    /// it is done in vain, for another owner gets the message. One load while nothing is lost.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.origin().is_lost(&self.0.facts.token)
    }

    /// Acks now, ahead of whoever owns the settlement; what the owner says later is not passed on to the
    /// backend, while [listeners](Self::on_settled) still hear it. To be called while it is unsettled. For
    /// middleware that trades the guarantee away on purpose, as
    /// [`InstantAck`](crate::middleware::InstantAck) does.
    pub fn ack_early(&self) {
        self.origin().settle_early(self.token(), Outcome::Ack);
    }

    /// Calls `listener` with what the owner of the settlement says, once it says it. For middleware
    /// whose work is finished only when the handler's outputs have been published, as
    /// [`Deduplicator`](crate::middleware::Deduplicator) does.
    ///
    /// To be asked for while the delivery is unsettled, like [`cancellation`](Self::cancellation), and when
    /// what is inside has returned: a try that has just begun may [forget](Self::forget_listeners) the
    /// listeners of those before it. The listener is called from whatever thread settles, from a destructor
    /// perhaps: it neither blocks nor panics. It is dropped uncalled only when it is forgotten.
    pub fn on_settled(&self, listener: impl FnOnce(&Outcome) + Send + 'static) {
        self.origin().on_settled(self.token(), Box::new(listener));
    }

    /// Drops the listeners that earlier tries of this delivery have left. Outputs that were refused are tried
    /// again in place, with the same delivery: a layer that holds something until the delivery is settled
    /// calls this when its turn begins, to have it free again.
    pub fn forget_listeners(&self) {
        self.origin().forget_listeners(self.token());
    }

    /// How long ago the message was published.
    pub fn age(&self) -> Option<Duration> {
        self.published_at()?.elapsed().ok()
    }

    #[inline]
    pub(super) fn settle(&self, outcome: Outcome, receipt: Option<Receipt>) {
        self.0.origin.settle(&self.0.facts.token, outcome, receipt);
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut Arc::make_mut(&mut self.0).facts
    }
}

impl fmt::Debug for DeliveryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryInfo")
            .field("origin", self.origin())
            .field("token", &self.token())
            .field("attempt", &self.attempt())
            .field("redelivered", &self.redelivered())
            .field("published_at", &self.published_at())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, fixtures::Outcomes};

    #[test]
    fn what_a_clone_changes_is_its_own() {
        let delivery = Outcomes::default().deliver(Message::new("x"));
        let info = delivery.info().clone();
        let changed = info.clone().with_attempt(3).with_redelivered(false).with_offset(7);
        assert_eq!((changed.attempt(), changed.redelivered(), changed.offset()), (3, true, Some(7)));
        assert_ne!(info.attempt(), 3);
        assert_eq!(changed.token(), info.token());
    }

    #[test]
    fn the_memory_of_a_delivery_that_is_over_is_used_again_and_no_other() {
        let delivery = Outcomes::default().deliver(Message::new("x"));
        let facts = delivery.info().0.facts;
        let mut infos = Infos::new(delivery.info().origin().clone());
        let mut make = |attempt| infos.make(|| Facts { attempt, ..facts });
        let first = make(1);
        let place = Arc::as_ptr(&first.0);
        drop(first);
        let kept = make(2);
        assert_eq!((Arc::as_ptr(&kept.0), kept.attempt()), (place, 2));
        let another = make(3);
        assert_eq!([kept.attempt(), another.attempt()], [2, 3]);
        assert_ne!(Arc::as_ptr(&another.0), place);
    }

    #[test]
    fn no_more_infos_are_remembered_than_the_bound() {
        let delivery = Outcomes::default().deliver(Message::new("x"));
        let facts = delivery.info().0.facts;
        let mut infos = Infos::new(delivery.info().origin().clone());
        let kept: Vec<_> =
            (1..=3 * MADE_MAX as u32).map(|attempt| infos.make(|| Facts { attempt, ..facts })).collect();
        assert_eq!(infos.made.len(), MADE_MAX);
        assert!((1..).zip(&kept).all(|(attempt, info)| info.attempt() == attempt));
    }

    #[test]
    fn attempt_and_redelivery_say_the_same_in_whatever_order_they_are_set() {
        let info = || Outcomes::default().deliver(Message::new("")).info().clone();
        for (attempt, redelivered) in [(1, false), (1, true), (2, false), (2, true), (u32::MAX, false)] {
            let one = info().with_attempt(attempt).with_redelivered(redelivered);
            let other = info().with_redelivered(redelivered).with_attempt(attempt);
            let said = |info: &DeliveryInfo| (info.attempt(), info.redelivered());
            assert_eq!(said(&one), said(&other));
            assert_eq!(one.redelivered(), redelivered || attempt > 1);
        }
    }
}
