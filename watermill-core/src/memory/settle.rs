//! How an outcome becomes a change of the group, and what ends a subscription.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use async_trait::async_trait;

use super::{
    broker::Shared,
    marshaler::OnReject,
    topic::{Reader, Topic},
};
use crate::{
    MessageId, Window,
    backend::{DeliveryMaker, Next, Source},
    delivery::{Outcome, Receipt, Token},
    error::{SettleError, SubscribeError},
    subscription::{Health, SubscriptionStatus},
};

/// A subscription's place in its topic, under whose lock all of its state is.
pub(super) struct Place {
    pub(super) broker: Arc<Shared>,
    pub(super) topic: Arc<Topic>,
    pub(super) reader: Reader,
    pub(super) group: Option<Arc<str>>,
    /// It has left the group.
    pub(super) left: AtomicBool,
}

impl Place {
    #[cold]
    fn rejected(&self, id: &MessageId, attempt: u32, reason: &str) {
        tracing::error!(
            topic = &*self.topic.name,
            message = id.as_str(),
            attempt,
            reason,
            "rejected: the message is dropped, this backend has no dead letters"
        );
    }
}

#[async_trait]
impl Source for Place {
    #[inline]
    fn next(&self, deliveries: &mut DeliveryMaker, waker: &Waker) -> Next {
        self.topic.next(self.reader, deliveries, waker)
    }

    #[inline]
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        // Dropped without the lock, at the end: see `Remains`.
        let mut left = None;
        let settled = self.topic.settle(self.reader, token, &outcome, &mut left);
        if let (Some(record), Outcome::Reject { reason }) = (&left, &outcome) {
            match record.on_reject() {
                Some(OnReject(hear)) => hear(reason),
                None => self.rejected(record.id(), token.delivery, reason),
            }
        }
        if let Some(receipt) = receipt {
            receipt.complete(if settled { Ok(()) } else { Err(SettleError::lost()) });
        }
    }

    fn handled(&self, token: Token) {
        self.topic.handled(self.reader, token);
    }

    fn set_window(&self, window: Window) {
        self.topic.set_window(self.reader, window);
    }

    fn stop_intake(&self) {
        self.topic.stop_intake(self.reader);
    }

    /// Leaves the group: what is outstanding goes back to its place, for others.
    fn end(&self) {
        self.topic.leave(self.reader);
        self.broker.forget_if_dead(&self.topic);
        self.left.store(true, Ordering::Release);
    }

    /// A settlement is recorded before the call that makes it returns, so there is nothing to wait for.
    async fn close(&self) -> Result<(), SubscribeError> {
        self.end();
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    fn status(&self) -> SubscriptionStatus {
        let (takes, outstanding, held) = self.topic.look(self.reader).unwrap_or_default();
        let health = if takes { Health::Healthy } else { Health::Ended };
        SubscriptionStatus::new(&*self.topic.name, health)
            .group(self.group.as_deref())
            .outstanding(outstanding)
            .lag(takes.then_some(held as u64))
    }
}
