//! How an outcome becomes a change of the group, and what ends a subscription.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use super::{
    broker::Shared,
    subscriber::Registry,
    topic::{Reader, Topic},
};
use crate::{
    Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::{SettleError, SubscribeError},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

/// A subscription's place in its topic: shared by its stream, its control and its deliveries.
pub(super) struct Place {
    pub(super) broker: Arc<Shared>,
    pub(super) topic: Arc<Topic>,
    pub(super) reader: Reader,
    pub(super) group: Option<Arc<str>>,
    pub(super) registry: Weak<Registry>,
    /// To tell whoever works for a delivery that the subscription has lost it. The origin holds this
    /// place in turn, so it is taken out at the end.
    pub(super) origin: Mutex<Option<Origin>>,
}

/// Settlements of a subscription.
pub(super) struct MemorySettle(pub(super) Arc<Place>);

/// The verbs beside the stream. Dropped with the subscription, it ends it.
pub(super) struct Control(pub(super) Arc<Place>);

impl Place {
    pub(super) fn status(&self) -> SubscriptionStatus {
        let (takes, outstanding, held) = self.topic.look(self.reader).unwrap_or_default();
        let health = if takes { Health::Healthy } else { Health::Ended };
        SubscriptionStatus::new(&*self.topic.name, health)
            .group(self.group.as_deref())
            .outstanding(outstanding)
            .lag(takes.then_some(held as u64))
    }

    /// Leaves the group: what is outstanding goes back to its place, for others. A second call does
    /// nothing.
    pub(super) fn end(&self) {
        self.topic.leave(self.reader);
        self.broker.forget_if_dead(&self.topic);
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(self.reader);
        }
        let origin = self.origin.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(origin) = origin {
            origin.revoke_all();
        }
    }
}

impl Settle for MemorySettle {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let mut left = None;
        let settled = self.0.topic.settle(self.0.reader, token, &outcome, &mut left);
        if let (Some(record), Outcome::Reject { reason }) = (&left, &outcome) {
            tracing::error!(
                topic = &*self.0.topic.name,
                message = record.id().as_str(),
                attempt = record.attempt(),
                reason,
                "rejected: the message is dropped, this backend has no dead letters"
            );
        }
        if let Some(receipt) = receipt {
            receipt.complete(if settled { Ok(()) } else { Err(SettleError::lost()) });
        }
        // `left` goes here, without the lock: dropping a record may run code of its extensions, and
        // tells a publisher that waits for acks.
    }

    fn handled(&self, token: Token) {
        self.0.topic.handled(self.0.reader, token);
    }
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.0.topic.set_window(self.0.reader, window);
    }

    fn stop_intake(&self) {
        self.0.topic.stop_intake(self.0.reader);
    }

    /// A settlement is recorded before the call that makes it returns, so there is nothing to wait
    /// for.
    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.end();
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.status()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.0.end();
    }
}
