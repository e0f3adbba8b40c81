//! The [`Subscriber`] trait: where deliveries come from.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::{Message, Subscription, error::SubscribeError, subscription::SubscriptionStatus};

/// Subscribes to topics of a backend.
///
/// # Contract
///
/// The conformance suite's tests name these numbers.
///
/// 1. **At least once.** A message is delivered to every consumer group until the group acks or
///    rejects it. The position of a group advances after the ack, never before. (A backend whose
///    [`delivery`](SubscriberCapabilities::delivery) is at most once forgets a message as it delivers it.)
/// 2. **One at a time per ordering scope** until asked for more with
///    [`Subscription::set_window`]; scopes are independent of each other.
/// 3. **Order.** Within a scope deliveries come in publish order. After a nack the same message comes
///    again before any later one of its scope that was not handed out yet, unless the window is
///    [unordered](crate::Window::unordered).
/// 4. **Settling never blocks**, and what is dropped unsettled is nacked. The first outcome of a delivery
///    counts; every outcome can be confirmed.
/// 5. **No silence.** Trouble is an `Err` on the stream. A subscription reconnects by itself; the
///    stream ends only after [`Subscription::stop_intake`], `close`, or an error that says why. Its
///    [status](Subscription::status) tells of trouble for as long as it lasts.
/// 6. **Bounded.** In each scope at most [`Window::per_scope`](crate::Window::per_scope) are being handled,
///    in all together at most [`Window::total`](crate::Window::total) are outstanding, and what is fetched
///    ahead is bounded too: a slow consumer does not grow memory.
/// 7. **Graceful stop.** [`Subscription::close`] returns once every settlement has been recorded, and
///    messages that were fetched but not handed out are free for others at once: it causes no
///    redelivery. Dropping a subscription nacks what is outstanding.
/// 8. **After `close`**, `subscribe` fails with [`SubscribeErrorKind::Closed`](crate::error::SubscribeErrorKind::Closed).
/// 9. **Tokens are never used twice** within one [`Origin`](crate::delivery::Origin): a late word on a
///    delivery is never taken for one on another.
/// 10. **Lost deliveries are said to be lost** ([`DeliveryInfo::is_lost`](crate::DeliveryInfo::is_lost)), as
///     soon as the subscription knows (a lost lease, a revoked partition); what they are settled with is
///     ignored, and an ack of theirs that is waited for fails.
///
/// # Cancel safety
///
/// A dropped `subscribe` future leaves no subscription behind. Polling the stream is cancel safe: a
/// delivery is either returned or still to come.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Begins a subscription.
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError>;

    /// Creates what a subscription needs (table, group, queue), so that nothing published from now
    /// on is missed by a subscription that begins later. May be called any number of times, by many
    /// processes at once.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError>;

    /// The same subscriber for another consumer group.
    ///
    /// # Errors
    ///
    /// [`SubscribeErrorKind::Unsupported`](crate::error::SubscribeErrorKind::Unsupported) where the
    /// backend has no groups, `Config` for a group name it cannot hold.
    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError>;

    /// The same subscriber, whose rejected messages are kept in `topic` of the place that they come from, an
    /// SQL database for instance: together with the position that passes them. `None` where there is no such
    /// place, which is the default; see [`dead_letters`](SubscriberCapabilities::dead_letters). Closing either
    /// closes the subscriptions of both.
    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        let _ = topic;
        None
    }

    /// A topic that a consumer group reads in shards: several members at once, each some of its keys. `None` where
    /// the backend has none, which is the default: the partitions of a broker are its own. Closing this subscriber
    /// closes the subscriptions of the shards.
    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let _ = (topic, sharding);
        None
    }

    /// Closes every subscription made by this subscriber as [`Subscription::close`] does, then
    /// releases what it holds. A second call is `Ok`.
    async fn close(&self) -> Result<(), SubscribeError>;

    /// How the subscriptions that run are doing, each of them. Never blocks and asks nobody.
    fn status(&self) -> Vec<SubscriptionStatus>;

    /// What this subscriber can do.
    fn capabilities(&self) -> SubscriberCapabilities;
}

/// The shards of a topic, as one process knows them: from [`Subscriber::shards`].
///
/// Each has an owner of its own at any time, in all processes of the group, and all messages of a key come from one
/// shard, in order, also while the number of shards is changed. The others stand by.
#[async_trait]
pub trait Shards: Send + Sync {
    /// How many there are, by what the group has stored, which every member follows. A change of it under way is
    /// counted already where it is to more.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] when that cannot be found out, or the topic cannot be read in shards.
    async fn count(&self) -> Result<u32, SubscribeError>;

    /// The subscriber of a shard. One whose number is too high has nothing to read, until there are more.
    fn shard(&self, number: u32) -> Arc<dyn Subscriber>;
}

/// How a topic is to be read in shards.
#[derive(Clone)]
#[non_exhaustive]
pub struct Sharding {
    /// How many shards a group gets that has none yet.
    pub count: u32,
    /// The key that order is kept by. It must say the same of a message every time.
    pub key_of: Arc<KeyOf>,
}

/// Derives the key of a message.
pub type KeyOf = dyn Fn(&Message) -> Option<Bytes> + Send + Sync;

impl Sharding {
    /// So many shards, by the key that each message has.
    pub fn new(count: u32) -> Self {
        Self { count, key_of: Arc::new(|message| message.key().cloned()) }
    }

    /// Sets [`key_of`](Self::key_of).
    #[must_use]
    pub fn key_of(mut self, key_of: impl Fn(&Message) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        self.key_of = Arc::new(key_of);
        self
    }
}

impl fmt::Debug for Sharding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharding").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What a subscriber can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberCapabilities {
    /// The backend's short name: `memory`, `sql`, `kafka`.
    pub backend: &'static str,
    /// Whether there are consumer groups.
    pub groups: bool,
    /// Whether messages outlive this process.
    pub persistent: bool,
    /// How far order is kept.
    pub ordering: Ordering,
    /// Whether what was delivered and not acked comes again.
    pub delivery: DeliveryGuarantee,
    /// Whether deliveries of a message are counted, so that [`DeliveryInfo::attempt`](crate::DeliveryInfo::attempt)
    /// tells. Where they are not, a router counts in its own memory.
    pub attempts: bool,
    /// Whether a delay given to a nack is waited for. Where it is not, a router waits before it nacks.
    pub nack_delay: bool,
    /// Whether a rejected message is kept in a place of the backend's own for dead letters.
    pub dead_letters: bool,
}

/// How often a message reaches a consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryGuarantee {
    /// Until it is acked or rejected.
    AtLeastOnce,
    /// Once, or not at all: nobody remembers it. To settle has no effect, and every receipt is complete at
    /// once.
    AtMostOnce,
}

/// How far a subscription keeps order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ordering {
    /// Not at all.
    None,
    /// Within each of several scopes (partitions, ordering keys).
    Scoped,
    /// Over the whole topic: a subscription is one scope.
    Total,
}

impl SubscriberCapabilities {
    /// A subscriber that promises nothing beyond the contract, and keeps no order.
    pub const fn new(backend: &'static str) -> Self {
        Self {
            backend,
            groups: false,
            persistent: false,
            ordering: Ordering::None,
            delivery: DeliveryGuarantee::AtLeastOnce,
            attempts: false,
            nack_delay: false,
            dead_letters: false,
        }
    }

    /// Sets [`groups`](Self::groups).
    #[must_use]
    pub const fn groups(mut self, groups: bool) -> Self {
        self.groups = groups;
        self
    }

    /// Sets [`persistent`](Self::persistent).
    #[must_use]
    pub const fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Sets [`ordering`](Self::ordering).
    #[must_use]
    pub const fn ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }

    /// Sets [`delivery`](Self::delivery).
    #[must_use]
    pub const fn delivery(mut self, delivery: DeliveryGuarantee) -> Self {
        self.delivery = delivery;
        self
    }

    /// Sets [`attempts`](Self::attempts).
    #[must_use]
    pub const fn attempts(mut self, attempts: bool) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets [`nack_delay`](Self::nack_delay).
    #[must_use]
    pub const fn nack_delay(mut self, nack_delay: bool) -> Self {
        self.nack_delay = nack_delay;
        self
    }

    /// Sets [`dead_letters`](Self::dead_letters).
    #[must_use]
    pub const fn dead_letters(mut self, dead_letters: bool) -> Self {
        self.dead_letters = dead_letters;
        self
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: Subscriber + ?Sized> Subscriber for $pointer {
            async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
                (**self).subscribe(topic).await
            }

            async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
                (**self).initialize(topic).await
            }

            fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
                (**self).in_group(group)
            }

            fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
                (**self).with_dead_letters(topic)
            }

            fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
                (**self).shards(topic, sharding)
            }

            async fn close(&self) -> Result<(), SubscribeError> {
                (**self).close().await
            }

            fn status(&self) -> Vec<SubscriptionStatus> {
                (**self).status()
            }

            fn capabilities(&self) -> SubscriberCapabilities {
                (**self).capabilities()
            }
        }
    )*};
}

forward!(&S, Box<S>, Arc<S>);

#[cfg(test)]
fn _object_safe(_: &dyn Subscriber) {}
