//! [`Record`]: a message as a group stores it, and back.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::oneshot;

use crate::{
    Delivery, DeliveryInfo, Message, MessageId,
    delivery::{Origin, Token},
    message::Stored,
};

/// The backend has one ordering scope for each subscription.
const SCOPE: u64 = 0;

/// Held by every record of a call that waits for acks, and by nothing else: when the last of them is
/// gone, so is the sender, and the receiver learns of it.
pub(super) type Confirm = Arc<oneshot::Sender<()>>;

/// A stored message. It stays in its group until it is settled; a delivery carries a copy.
///
/// A clone shares the payload, at the price of one small allocation for the first clone of a payload
/// that nobody shared before (`Bytes` begins to count references then). Handing out the original and
/// asking for it back would save that one, but a delivery gives its message away by value.
#[derive(Clone)]
pub(super) struct Record {
    message: Stored,
    /// Its place in the topic.
    pub(super) sequence: u64,
    published_at: SystemTime,
    /// How often it was handed out.
    attempt: u32,
    #[expect(dead_code, reason = "it speaks by being dropped")]
    confirm: Option<Confirm>,
}

impl Record {
    #[inline]
    pub(super) fn new(
        message: Message,
        sequence: u64,
        published_at: SystemTime,
        confirm: Option<Confirm>,
    ) -> Self {
        Self { message: message.into_stored(), sequence, published_at, attempt: 0, confirm }
    }

    /// Counts an attempt and makes its delivery.
    #[inline]
    pub(super) fn deliver(&mut self, origin: &Origin) -> Delivery {
        self.attempt = self.attempt.saturating_add(1);
        let token = Token { scope: SCOPE, position: self.sequence, delivery: self.attempt };
        let info = DeliveryInfo::new(origin.clone(), token)
            .with_attempt(self.attempt)
            .with_published_at(Some(self.published_at))
            .with_offset(self.sequence.cast_signed());
        Delivery::new(self.message.clone().into_message(), info)
    }

    pub(super) fn id(&self) -> &MessageId {
        self.message.id()
    }

    #[inline]
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Leaves what crosses from a publisher to its consumers: never how the message came to the publisher
/// and who handled it there, and its extensions only on request. In place, because moving a message
/// costs more than this does.
#[inline]
pub(super) fn strip(message: &mut Message, preserve_extensions: bool) {
    if preserve_extensions {
        let extensions = std::mem::take(message.extensions_mut());
        message.clear_context();
        *message.extensions_mut() = extensions;
    } else {
        message.clear_context();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HandlerInfo;

    fn message() -> Message {
        let handler = Arc::new(HandlerInfo::consumer("h", "memory", "t"));
        Message::with_id("1", "x")
            .with_key("k")
            .with_metadata("a", "")
            .with_extension(7_u8)
            .with_handler(handler)
    }

    #[test]
    fn the_context_stays_behind() {
        let mut stored = message();
        strip(&mut stored, false);
        assert_eq!(stored, message());
        assert_eq!(stored.extensions().get::<u8>(), None);
        assert!(stored.handler().is_none());
    }

    #[test]
    fn extensions_can_be_preserved_and_nothing_else_of_the_context() {
        let mut stored = message();
        strip(&mut stored, true);
        assert_eq!(stored, message());
        assert_eq!(stored.extensions().get::<u8>(), Some(&7));
        assert!(stored.handler().is_none());
    }
}
