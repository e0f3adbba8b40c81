//! [`Item`]: one message in hand.

use std::sync::Arc;

use bytes::Bytes;
use watermill_core::{
    Delivery, HandlerInfo, Message,
    dead_letter::DeadLetter,
    delivery::Settlement,
    error::{PublishError, SettleError},
};

use crate::{Envelope, EnvelopeError};

/// A message in hand: taken from the source and not settled. Dropped, it is nacked.
pub(crate) struct Item {
    /// As it came; its dead letter is made of it, so that it can be sent again as it is.
    pub(crate) outer: Message,
    /// What is to be published, or why there is nothing.
    pub(crate) inner: Result<Message, EnvelopeError>,
    settlement: Settlement,
}

impl Item {
    /// Unwraps a delivery, and says where it is to go.
    pub(crate) fn new(delivery: Delivery) -> (Option<String>, Self) {
        let (outer, settlement) = delivery.split();
        let (destination, inner) = match Envelope::unwrap(&outer).map(Envelope::into_parts) {
            Ok((destination, message)) => (Some(destination), Ok(message)),
            Err(error) => (None, Err(error)),
        };
        (destination, Self { outer, inner, settlement })
    }

    pub(crate) fn key(&self) -> Option<&Bytes> {
        self.inner.as_ref().ok().and_then(Message::key)
    }

    /// Whether the source has given it to another owner: publishing it here would only make a duplicate.
    pub(crate) fn is_lost(&self) -> bool {
        self.settlement.is_lost()
    }

    /// Its dead letter: the envelope as it came, so that publishing it to the forwarder topic again is all it
    /// takes to try again. What can be read is given up because of an error.
    pub(crate) fn dead_letter(
        &self,
        handler: &Arc<HandlerInfo>,
        error: Option<&PublishError>,
        attempts: u32,
    ) -> Message {
        let outer = self.outer.clone().with_handler(Arc::clone(handler));
        match (&self.inner, error) {
            (Err(unreadable), _) => DeadLetter::message(outer, unreadable, attempts),
            (Ok(_), Some(error)) => DeadLetter::message(outer, error, attempts),
            (Ok(_), None) => unreachable!("what can be read is given up because of an error"),
        }
    }

    pub(crate) fn ack(self) {
        self.settlement.ack();
    }

    /// Acks, and says whether the source has recorded it.
    pub(crate) async fn ack_confirmed(self) -> Result<(), SettleError> {
        self.settlement.ack_confirmed().await
    }

    pub(crate) fn nack(self) {
        self.settlement.nack();
    }
}
