//! [`Item`]: one message in hand.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use watermill_core::{
    Delivery, DeliveryInfo, HandlerInfo, Message,
    dead_letter::DeadLetter,
    delivery::{Outcome, Settlement},
    error::{PublishError, SettleError},
    metadata_keys,
};

use crate::{Envelope, EnvelopeError, ForwarderConfig};

/// A message in hand: taken from the source and not settled. Dropped, it is nacked.
pub(crate) struct Item {
    /// As it came; its dead letter is made of it, so that it can be sent again as it is.
    pub(crate) outer: Message,
    /// What is to be published, or why there is nothing.
    pub(crate) inner: Result<Message, EnvelopeError>,
    /// How often its destination has refused it, alone.
    pub(crate) refusals: u32,
    /// When that was for the first time, by the count of its [`Lanes`](super::lanes::Lanes).
    pub(crate) refused_at: Option<u64>,
    settlement: Settlement,
}

impl Item {
    /// Unwraps a delivery, where it is an envelope, and says where it is to go.
    pub(crate) fn new(delivery: Delivery, config: &ForwarderConfig) -> (Option<String>, Self) {
        let ForwarderConfig { destination_from, key_from, .. } = config;
        let (outer, settlement) = delivery.split();
        let read = match destination_from {
            None => Envelope::unwrap(&outer),
            Some(from) => match from.of(&outer) {
                Some(destination) => Ok(Envelope::new(destination, as_it_is(&outer))),
                None => Err(EnvelopeError::without_destination()),
            },
        };
        let (destination, inner) = match read.map(Envelope::into_parts) {
            Ok((destination, mut message)) => {
                if let Some(key_from) = key_from {
                    key_from.apply(&mut message);
                }
                (Some(destination), Ok(message))
            }
            Err(error) => (None, Err(error)),
        };
        (destination, Self { outer, inner, refusals: 0, refused_at: None, settlement })
    }

    /// When it was written into the source, if that says so.
    pub(crate) fn written_at(&self) -> Option<SystemTime> {
        self.outer.delivery().and_then(DeliveryInfo::published_at)
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

    /// Lets the source keep it as a dead letter, and waits until that is recorded.
    pub(crate) async fn reject(self, letter: &Message) -> Result<(), SettleError> {
        let said = |name| letter.metadata().get(name).unwrap_or_default();
        let (reason, attempts) =
            (said(metadata_keys::REASON_POISONED), said(metadata_keys::ATTEMPTS_POISONED));
        let reason = format!("{reason} (attempts: {attempts})");
        self.settlement.settle_confirmed(Outcome::Reject { reason }).await
    }

    pub(crate) fn ack(self) {
        self.settlement.ack();
    }

    /// Acks, and says whether the source has recorded it. The message is dropped at once: what waits to be recorded
    /// takes no more memory than its right to be.
    pub(crate) fn ack_confirmed(self) -> impl Future<Output = Result<(), SettleError>> {
        let Self { settlement, .. } = self;
        settlement.ack_confirmed()
    }

    pub(crate) fn nack(self) {
        self.settlement.nack();
    }

    pub(crate) fn nack_after(self, delay: std::time::Duration) {
        self.settlement.nack_after(delay);
    }
}

/// The message alone, without what is known of its delivery.
fn as_it_is(outer: &Message) -> Message {
    let (id, key, metadata, payload) = outer.clone().into_parts();
    let mut message = Message::with_id(id, payload);
    *message.metadata_mut() = metadata;
    message.set_key(key);
    if outer.is_tombstone() { message.without_value() } else { message }
}
