//! [`DeliveryInfo`]: how a message came.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    origin::Origin,
    outcome::{Outcome, Token},
};

/// How a copy of a message was delivered: typed facts, filled by every backend that has them.
#[derive(Clone)]
pub struct DeliveryInfo {
    origin: Origin,
    token: Token,
    // Every message carries this, so it is kept small: what may be missing has a value for that.
    /// As the clock gave it: to turn it into a number and back costs more than the eight bytes.
    published_at: Option<SystemTime>,
    /// `i64::MIN` when there is none.
    offset: i64,
    /// `i32::MIN` when there is none.
    partition: i32,
    /// The attempt, and [`REDELIVERED`].
    attempt: u32,
}

/// The bit of `attempt` that says that the message may have been delivered before.
const REDELIVERED: u32 = 1 << 31;

impl DeliveryInfo {
    /// The first delivery named by `token`; for backends.
    #[inline]
    pub fn new(origin: Origin, token: Token) -> Self {
        Self { origin, token, published_at: None, offset: i64::MIN, partition: i32::MIN, attempt: 1 }
    }

    /// Sets the attempt; more than one means redelivered. Beyond two thousand million it counts no
    /// further.
    #[must_use]
    #[inline]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        let redelivered = if attempt > 1 { REDELIVERED } else { self.attempt & REDELIVERED };
        self.attempt = attempt.clamp(1, !REDELIVERED) | redelivered;
        self
    }

    /// Says that the backend may have delivered this message before, even if it cannot count. What is
    /// attempted more than once is redelivered, whatever is said here.
    #[must_use]
    pub fn with_redelivered(mut self, redelivered: bool) -> Self {
        let redelivered = redelivered || self.attempt() > 1;
        self.attempt = self.attempt() | if redelivered { REDELIVERED } else { 0 };
        self
    }

    /// Sets the time of publishing.
    #[must_use]
    #[inline]
    pub fn with_published_at(mut self, published_at: Option<SystemTime>) -> Self {
        self.published_at = published_at;
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// Sets the offset.
    #[must_use]
    #[inline]
    pub fn with_offset(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// The subscription it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The topic it was received on.
    pub fn topic(&self) -> &str {
        self.origin.topic()
    }

    /// The consumer group it was received for.
    pub fn group(&self) -> Option<&str> {
        self.origin.group()
    }

    /// Its place: within a scope, deliveries come in order.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Which delivery of this message to this group this is, from 1, as far as the backend can count; where it
    /// cannot, the router counts in its own memory.
    pub fn attempt(&self) -> u32 {
        self.attempt & !REDELIVERED
    }

    /// Whether the message may have been delivered before.
    pub fn redelivered(&self) -> bool {
        self.attempt & REDELIVERED != 0
    }

    /// When it was published, by the backend's clock.
    pub fn published_at(&self) -> Option<SystemTime> {
        self.published_at
    }

    /// The partition it came from, where the backend has them.
    pub fn partition(&self) -> Option<i32> {
        (self.partition != i32::MIN).then_some(self.partition)
    }

    /// Its offset in the partition or log, where the backend has them.
    pub fn offset(&self) -> Option<i64> {
        (self.offset != i64::MIN).then_some(self.offset)
    }

    /// A token that is cancelled when this delivery is settled, or when the subscription loses it (a
    /// lost lease, a revoked partition): work done for it afterwards is done in vain.
    ///
    /// Ask for it while the delivery is unsettled, inside the handler for instance; asked for after it
    /// was settled, it is cancelled only when the subscription ends.
    pub fn cancellation(&self) -> CancellationToken {
        self.origin.watch(self.token)
    }

    /// Whether the subscription has lost this delivery (a lost lease, a revoked partition): what is done for
    /// it is done in vain, for another owner gets the message. One load while nothing is lost.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.origin.is_lost(self.token)
    }

    /// Acks now, ahead of whoever owns the settlement; what the owner says later is not passed on to the
    /// backend, while [listeners](Self::on_settled) still hear it. To be called while it is unsettled. For
    /// middleware that trades the guarantee away on purpose, as
    /// [`InstantAck`](crate::middleware::InstantAck) does.
    pub fn ack_early(&self) {
        self.origin.settle_early(self.token, Outcome::Ack);
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
        self.origin.on_settled(self.token, Box::new(listener));
    }

    /// Drops the listeners that earlier tries of this delivery have left. Outputs that were refused are tried
    /// again in place, with the same delivery: a layer that holds something until the delivery is settled
    /// calls this when its turn begins, to have it free again.
    pub fn forget_listeners(&self) {
        self.origin.forget_listeners(self.token);
    }

    /// How long ago the message was published.
    pub fn age(&self) -> Option<Duration> {
        self.published_at()?.elapsed().ok()
    }
}

impl fmt::Debug for DeliveryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryInfo")
            .field("origin", &self.origin)
            .field("token", &self.token)
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
