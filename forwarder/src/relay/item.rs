//! [`Item`]: one message in hand.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use watermill_core::{Delivery, Message, delivery::Settlement};

use crate::{Envelope, EnvelopeError};

/// A message in hand: taken from the source and not settled. Dropped, it is nacked.
pub(super) struct Item {
    /// As it came; its dead letter is made of it, so that it can be sent again as it is.
    pub(super) outer: Message,
    /// What is to be published, or why there is nothing.
    pub(super) inner: Result<Message, EnvelopeError>,
    settlement: Settlement,
    lost: CancellationToken,
}

impl Item {
    /// Unwraps a delivery, and says where it is to go.
    pub(super) fn new(delivery: Delivery) -> (Option<String>, Self) {
        // Asked for at once: what is lost before somebody watches is never reported.
        let lost = delivery.cancellation();
        let (outer, settlement) = delivery.split();
        let (destination, inner) = match Envelope::unwrap(&outer).map(Envelope::into_parts) {
            Ok((destination, message)) => (Some(destination), Ok(message)),
            Err(error) => (None, Err(error)),
        };
        (destination, Self { outer, inner, settlement, lost })
    }

    pub(super) fn key(&self) -> Option<&Bytes> {
        self.inner.as_ref().ok().and_then(Message::key)
    }

    /// Whether another owner has it now: publishing it here would only make a duplicate.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    pub(super) fn ack(self) {
        self.settlement.ack();
    }

    pub(super) fn nack(self) {
        self.settlement.nack();
    }
}
