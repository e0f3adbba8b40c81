//! [`Settlement`]: the right to settle a delivery, once.

use std::{fmt, mem::ManuallyDrop, time::Duration};

use super::{
    info::DeliveryInfo,
    outcome::{Outcome, Receipt},
};
use crate::error::SettleError;

/// The right to settle one delivery, once. Dropped, it nacks.
#[must_use = "a settlement that is dropped nacks its delivery"]
pub struct Settlement {
    /// Of which delivery; `None` once it is settled.
    info: Option<DeliveryInfo>,
}

impl Settlement {
    #[inline]
    pub(crate) fn new(info: DeliveryInfo) -> Self {
        Self { info: Some(info) }
    }

    /// What is known of the delivery.
    #[inline]
    pub(crate) fn info(&self) -> &DeliveryInfo {
        self.info.as_ref().expect("it has its delivery until it is settled")
    }

    /// Puts other facts of the same delivery into the place of its own.
    pub(crate) fn set_info(&mut self, info: DeliveryInfo) {
        self.info = Some(info);
    }

    /// Done: do not deliver it again. Returns at once; the backend records it in the background.
    #[inline]
    pub fn ack(self) {
        self.settle(Outcome::Ack);
    }

    /// Done, and waits until the backend has recorded it. As
    /// [`settle_confirmed`](Self::settle_confirmed) with [`Outcome::Ack`].
    ///
    /// # Errors
    ///
    /// [`SettleError`] when the backend did not record it: the message will or may come again, as
    /// the error's kind says.
    ///
    /// # Cancel safety
    ///
    /// The ack is on its way once the future has been polled; dropping it gives up the confirmation
    /// only.
    pub async fn ack_confirmed(self) -> Result<(), SettleError> {
        self.settle_confirmed(Outcome::Ack).await
    }

    /// Settles with any outcome, and waits until the backend has recorded it.
    ///
    /// # Errors
    ///
    /// [`SettleError`] when the backend did not record it, as the error's kind says.
    ///
    /// # Cancel safety
    ///
    /// As [`ack_confirmed`](Self::ack_confirmed).
    pub async fn settle_confirmed(self, outcome: Outcome) -> Result<(), SettleError> {
        let (receipt, confirmation) = Receipt::new();
        self.settle_with(outcome, Some(receipt));
        confirmation.await.unwrap_or_else(|_| Err(SettleError::unknown()))
    }

    /// Not done: deliver it again, at once.
    pub fn nack(self) {
        self.nack_after(Duration::ZERO);
    }

    /// Not done: deliver it again after `delay`. Later messages of its scope wait with it, unless the
    /// subscription was asked for unordered deliveries. A backend that cannot wait that long
    /// delivers earlier.
    pub fn nack_after(self, delay: Duration) {
        self.settle(Outcome::Nack { delay });
    }

    /// It cannot be processed, now or later: do not deliver it again. See [`Outcome::Reject`].
    pub fn reject(self, reason: impl Into<String>) {
        self.settle(Outcome::Reject { reason: reason.into() });
    }

    /// Settles with any outcome.
    #[inline]
    pub fn settle(self, outcome: Outcome) {
        self.settle_with(outcome, None);
    }

    /// Says that handling has finished and only the outputs are on their way, so that the next of its scope
    /// may be handed out. See [`Settle::handled`](super::Settle::handled). A router does it.
    #[inline]
    pub fn handled(&self) {
        self.info().origin().handled(self.info().token());
    }

    /// Whether the subscription has lost the delivery: what is done for it is done in vain. One load while
    /// nothing is lost.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.info().is_lost()
    }

    #[inline(always)]
    fn settle_with(self, outcome: Outcome, receipt: Option<Receipt>) {
        // Without the look that a drop would take: with the facts, all that it owns is taken.
        let mut settled = ManuallyDrop::new(self);
        if let Some(info) = settled.info.take() {
            info.settle(outcome, receipt);
        }
    }
}

impl Drop for Settlement {
    #[inline]
    fn drop(&mut self) {
        if let Some(info) = self.info.take() {
            dropped(&info);
        }
    }
}

/// Out of the way of the settlements that are settled.
#[cold]
fn dropped(info: &DeliveryInfo) {
    info.origin().count_dropped();
    info.settle(Outcome::Nack { delay: Duration::ZERO }, None);
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settlement").field(&self.info.as_ref().map(DeliveryInfo::token)).finish()
    }
}
