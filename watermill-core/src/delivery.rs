//! [`Delivery`]: a message, how it came, and the right to settle it once.

use std::{fmt, ops::Deref, time::Duration};

use tokio_util::sync::CancellationToken;

pub use crate::settle::{DeliveryInfo, Origin, OriginBuilder, Outcome, Receipt, Settle, Settlement, Token};
pub(crate) use crate::settle::{Facts, Infos};
use crate::{Message, error::SettleError};

/// A [`Message`] together with the right to settle it, once, by value.
///
/// ```compile_fail
/// # async fn twice(delivery: watermill_core::Delivery) {
/// delivery.ack();
/// delivery.ack(); // the right is spent: this does not compile
/// # }
/// ```
///
/// A delivery that is dropped unsettled is nacked, so that a panicking or forgetful consumer causes
/// a redelivery and never a loss.
#[must_use = "a delivery that is dropped is nacked"]
pub struct Delivery {
    pub(crate) message: Message,
    pub(crate) settlement: Settlement,
}

impl Delivery {
    /// Makes a delivery; for backends. Within the subscription that `info` names as its origin, no
    /// other outstanding delivery may have the same [`Token`].
    #[inline]
    pub fn new(mut message: Message, info: DeliveryInfo) -> Self {
        let settlement = Settlement::new(info.clone());
        // Whatever delay was asked for has been kept, or else the message would not be here.
        message.forget_delay();
        message.set_delivery(info);
        Self { message, settlement }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How it was delivered.
    pub fn info(&self) -> &DeliveryInfo {
        self.message.delivery().expect("every delivery is made with its info")
    }

    /// Separates the message from the right to settle it.
    #[inline]
    pub fn split(self) -> (Message, Settlement) {
        (self.message, self.settlement)
    }

    /// Changes the message and keeps the right to settle it; for wrappers.
    pub fn map(self, change: impl FnOnce(Message) -> Message) -> Self {
        let info = self.info().clone();
        let mut message = change(self.message);
        message.set_delivery(info);
        Self { message, settlement: self.settlement }
    }

    /// Done: do not deliver it again. See [`Settlement::ack`].
    pub fn ack(self) {
        self.settlement.ack();
    }

    /// Done, and says when the backend has recorded it. See [`Settlement::ack_confirmed`].
    ///
    /// # Errors
    ///
    /// [`SettleError`] when the backend did not record it: the message will or may come again.
    pub async fn ack_confirmed(self) -> Result<(), SettleError> {
        self.settlement.ack_confirmed().await
    }

    /// Deliver it again, at once. See [`Settlement::nack`].
    pub fn nack(self) {
        self.settlement.nack();
    }

    /// Deliver it again after `delay`. See [`Settlement::nack_after`].
    pub fn nack_after(self, delay: Duration) {
        self.settlement.nack_after(delay);
    }

    /// Never deliver it again: it cannot be processed. See [`Settlement::reject`].
    pub fn reject(self, reason: impl Into<String>) {
        self.settlement.reject(reason);
    }

    /// Settles with any outcome. See [`Settlement::settle`].
    pub fn settle(self, outcome: Outcome) {
        self.settlement.settle(outcome);
    }

    /// Settles with any outcome, and says when the backend has recorded it. See
    /// [`Settlement::settle_confirmed`].
    ///
    /// # Errors
    ///
    /// [`SettleError`] when the backend did not record it.
    pub async fn settle_confirmed(self, outcome: Outcome) -> Result<(), SettleError> {
        self.settlement.settle_confirmed(outcome).await
    }

    /// Whether the subscription has lost it. See [`DeliveryInfo::is_lost`].
    pub fn is_lost(&self) -> bool {
        self.settlement.is_lost()
    }

    /// Cancelled when this delivery is settled or its owner loses it. See [`DeliveryInfo::cancellation`].
    pub fn cancellation(&self) -> CancellationToken {
        self.info().cancellation()
    }
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.message).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::{DeadLetter, Message, fixtures::Outcomes};
    use std::time::Duration;

    #[test]
    fn neither_a_delivered_message_nor_its_dead_letter_asks_for_the_delay_that_was_kept() {
        let asked = Message::new("x").delay_for(Duration::from_hours(1));
        let delivery = Outcomes::default().deliver(asked.clone());
        assert!(!delivery.message().asks_for_delay());
        let letter = DeadLetter::message(asked, &std::fmt::Error, 1);
        assert!(!letter.asks_for_delay());
        assert!(letter.delayed_until().unwrap().is_some(), "its metadata are as they were");
    }
}
