//! [`DeliveryInfo`]: how a message came.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use super::{Origin, Outcome, Token};

/// How a copy of a message was delivered: typed facts, filled by every backend that has them.
#[derive(Clone)]
pub struct DeliveryInfo {
    origin: Origin,
    token: Token,
    // Every message carries this, so it is kept small: what may be missing has a value for that.
    /// Nanoseconds since the Unix epoch; 0 when it is not known.
    published_at_ns: u64,
    /// `i64::MIN` when there is none.
    offset: i64,
    /// `i32::MIN` when there is none.
    partition: i32,
    attempt: u32,
    redelivered: bool,
}

impl DeliveryInfo {
    /// The first delivery named by `token`; for backends.
    pub fn new(origin: Origin, token: Token) -> Self {
        Self {
            origin,
            token,
            published_at_ns: 0,
            offset: i64::MIN,
            partition: i32::MIN,
            attempt: 1,
            redelivered: false,
        }
    }

    /// Sets the attempt; more than one means redelivered.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt.max(1);
        self.redelivered |= attempt > 1;
        self
    }

    /// Says that the backend may have delivered this message before, even if it cannot count.
    #[must_use]
    pub fn with_redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Sets the time of publishing. Times before 1970 and after 2554 count as not known.
    #[must_use]
    pub fn with_published_at(mut self, published_at: Option<SystemTime>) -> Self {
        let since_epoch = published_at.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.published_at_ns = since_epoch.and_then(|since| since.as_nanos().try_into().ok()).unwrap_or(0);
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

    /// Which delivery of this message to this group this is, from 1, as far as the backend can count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the message may have been delivered before.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// When it was published, by the backend's clock.
    pub fn published_at(&self) -> Option<SystemTime> {
        (self.published_at_ns > 0).then(|| UNIX_EPOCH + Duration::from_nanos(self.published_at_ns))
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
    /// Ask for it while the delivery is unsettled, inside the handler for instance; asked for later,
    /// it is never cancelled.
    pub fn cancellation(&self) -> CancellationToken {
        self.origin.watch(self.token)
    }

    /// Acks while whoever owns the settlement still holds it; what the owner says later is not
    /// passed on. For middleware that trades the guarantee away on purpose.
    pub(crate) fn ack_early(&self) {
        self.origin.settle_early(self.token, Outcome::Ack);
    }

    /// Calls `listener` with what the owner of the settlement says, once it says it. For middleware
    /// whose work is finished only when the handler's outputs have been published.
    ///
    /// To be asked for while the delivery is unsettled, like [`cancellation`](Self::cancellation).
    pub(crate) fn on_settled(&self, listener: impl FnOnce(&Outcome) + Send + 'static) {
        self.origin.on_settled(self.token, Box::new(listener));
    }

    /// Drops the listeners of an earlier try of this delivery, whose outputs were not published.
    pub(crate) fn forget_listeners(&self) {
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
