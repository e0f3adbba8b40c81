//! The [`Publisher`] trait: where messages go.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::{Message, error::PublishError};

/// Sends messages to topics of a backend.
///
/// # Contract
///
/// The conformance suite's tests name these numbers.
///
/// 1. **Thread safe.** Any number of calls may be in progress at once.
/// 2. **Ok means accepted.** When `publish` returns `Ok`, the backend has accepted every message, as
///    durably as it is configured to. Nothing is left in a buffer to be flushed.
/// 3. **An error says what was not accepted**, in [`PublishError::not_accepted`]. A backend that can
///    accept a call as a whole does: then it is all or none.
/// 4. **Order.** The messages of one call keep their order within their ordering scope. Calls that
///    follow one another keep theirs. Where [`PublisherCapabilities::keeps_order`] is set, so do calls
///    that are in progress together, if each was polled before the next was made.
/// 5. **Unchanged.** Id, key, metadata and payload arrive as they were given, or the call fails with
///    [`PublishErrorKind::Message`](crate::error::PublishErrorKind::Message) before anything is sent.
///    The empty payload, the empty id and the empty metadata value are values like any other.
/// 6. **An empty call is `Ok`** and sends nothing.
/// 7. **Bounded.** A call waits when the backend is slow; it does not queue without limit.
/// 8. **After `close`**, `publish` fails with [`PublishErrorKind::Closed`](crate::error::PublishErrorKind::Closed).
/// 9. **A key fails from its first failure on.** Of what a call did not accept of one key, none of that key's
///    later messages in the call is accepted either: to publish what was not accepted again keeps the order.
/// 10. **A delay is kept or refused.** A message that [asks for a delay](Message::asks_for_delay) is delivered
///     when it is due, or the call fails with
///     [`PublishErrorKind::Unsupported`](crate::error::PublishErrorKind::Unsupported) before anything is sent,
///     where [`PublisherCapabilities::delays`] is not set. A delay that is only in the metadata is not refused.
///
/// # Cancel safety
///
/// A dropped `publish` future may have published all, some or none of its messages. It leaves the
/// publisher usable, and no other call's messages are touched.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes messages to a topic. See the contract above.
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError>;

    /// Takes back what calls have queued whose futures were dropped, as far as nothing of it was sent: for somebody who has
    /// lost the right to publish it, a relay whose place another has taken. Returns at once. A call that is in progress meanwhile
    /// may fail with [`Unavailable`](crate::error::PublishErrorKind::Unavailable). By default it does nothing, as a
    /// publisher that queues nothing has nothing to take back.
    fn take_back(&self) {}

    /// Waits for the calls in progress, then releases what the publisher holds. A second call is `Ok`.
    async fn close(&self) -> Result<(), PublishError>;

    /// What this publisher can do.
    fn capabilities(&self) -> PublisherCapabilities;
}

/// What a publisher can do. What it cannot do, it refuses with
/// [`PublishErrorKind::Unsupported`](crate::error::PublishErrorKind::Unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherCapabilities {
    /// The backend's short name: `memory`, `sql`, `kafka`.
    pub backend: &'static str,
    /// Whether calls that are in progress together keep the order in which they were made and polled
    /// first, so that a router may begin the next before the one before has been confirmed.
    pub keeps_order: bool,
    /// Whether a call with several messages is accepted as a whole or not at all.
    pub atomic: bool,
    /// Whether a message is delivered when it is [due](crate::Message::delay_for), and not before.
    pub delays: bool,
    /// Whether what is published becomes visible together with the ack of the delivery that it was made
    /// of, or not at all. `Ok` means as much then, and each message names its delivery with
    /// [`Message::with_delivery`](crate::Message::with_delivery), which a router sees to.
    pub commits_with_ack: bool,
}

impl PublisherCapabilities {
    /// A publisher that promises nothing beyond the contract.
    pub const fn new(backend: &'static str) -> Self {
        Self { backend, keeps_order: false, atomic: false, delays: false, commits_with_ack: false }
    }

    /// Sets [`keeps_order`](Self::keeps_order).
    #[must_use]
    pub const fn keeps_order(mut self, keeps_order: bool) -> Self {
        self.keeps_order = keeps_order;
        self
    }

    /// Sets [`atomic`](Self::atomic).
    #[must_use]
    pub const fn atomic(mut self, atomic: bool) -> Self {
        self.atomic = atomic;
        self
    }

    /// Sets [`delays`](Self::delays).
    #[must_use]
    pub const fn delays(mut self, delays: bool) -> Self {
        self.delays = delays;
        self
    }

    /// Sets [`commits_with_ack`](Self::commits_with_ack).
    #[must_use]
    pub const fn commits_with_ack(mut self, commits_with_ack: bool) -> Self {
        self.commits_with_ack = commits_with_ack;
        self
    }
}

/// Conveniences on every publisher.
#[async_trait]
pub trait PublisherExt: Publisher {
    /// Publishes one message.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`].
    async fn publish_one(&self, topic: &str, message: Message) -> Result<(), PublishError> {
        self.publish(topic, vec![message]).await
    }
}

impl<P: Publisher + ?Sized> PublisherExt for P {}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<P: Publisher + ?Sized> Publisher for $pointer {
            // Written out, because as an `async fn` it would box a future that only polls another box:
            // one allocation more for every call through an `Arc<dyn Publisher>`.
            fn publish<'this, 'topic, 'call>(
                &'this self,
                topic: &'topic str,
                messages: Vec<Message>,
            ) -> BoxFuture<'call, Result<(), PublishError>>
            where
                'this: 'call,
                'topic: 'call,
                Self: 'call,
            {
                (**self).publish(topic, messages)
            }

            async fn close(&self) -> Result<(), PublishError> {
                (**self).close().await
            }

            fn take_back(&self) {
                (**self).take_back();
            }

            fn capabilities(&self) -> PublisherCapabilities {
                (**self).capabilities()
            }
        }
    )*};
}

forward!(&P, Box<P>, Arc<P>);

#[cfg(test)]
fn _object_safe(_: &dyn Publisher) {}
