//! [`Record`]: a message as a group stores it, and back.

use std::{sync::Arc, time::SystemTime};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    Message, MessageId,
    backend::Handed,
    delivery::Token,
    message::{Extensions, Stored},
};

/// The backend has one ordering scope for each subscription.
const SCOPE: u64 = 0;

/// Held by every record of a call that waits for acks, and by nothing else: when the last of them is
/// gone, so is the sender, and the receiver learns of it.
pub(super) type Confirm = Arc<oneshot::Sender<()>>;

/// A stored message. It stays in its group until it is settled; a delivery carries a copy.
#[derive(Clone)]
pub(crate) struct Record {
    message: Stored,
    /// Its place in the topic.
    pub(crate) sequence: u64,
    pub(crate) published_at: SystemTime,
    /// How often it was handed out.
    attempt: u32,
    /// While it is outstanding: its handler has finished, and its outputs are on their way.
    pub(super) handled: bool,
    /// Apart, because records are moved from queue to queue: every sixteen bytes are two instructions a move.
    rare: Option<Box<Rare>>,
}

/// What is left of a record that leaves its group: not to be dropped under a lock, for that may run code of its
/// extensions, and tells a publisher that waits for acks.
pub(super) struct Remains {
    message: Stored,
    rare: Option<Box<Rare>>,
}

/// An extension that hears why a message was rejected, in place of the log: of whoever keeps the message elsewhere.
#[derive(Clone)]
pub(crate) struct OnReject(pub(crate) Arc<dyn Fn(&str) + Send + Sync>);

impl Remains {
    pub(super) fn on_reject(&self) -> Option<&OnReject> {
        self.rare.as_ref()?.extensions.get()
    }

    pub(super) fn id(&self) -> &MessageId {
        self.message.id()
    }
}

/// What few records have.
#[derive(Clone, Default)]
struct Rare {
    extensions: Extensions,
    #[expect(dead_code, reason = "it speaks by being dropped")]
    confirm: Option<Confirm>,
    /// While it waits in an ordered group: neither it nor anything behind it is handed out earlier.
    held_until: Option<Instant>,
}

impl Record {
    #[inline(always)]
    pub(super) fn new(
        message: Message,
        sequence: u64,
        published_at: SystemTime,
        confirm: Option<&Confirm>,
    ) -> Self {
        let (message, extensions) = message.into_stored();
        let rare = (confirm.is_some() || !extensions.is_empty())
            .then(|| Box::new(Rare { extensions, confirm: confirm.cloned(), held_until: None }));
        Self { message, sequence, published_at, attempt: 0, handled: false, rare }
    }

    /// Counts an attempt, and hands out a copy.
    #[inline(always)]
    pub(super) fn hand_out(&mut self) -> Handed {
        self.attempt = self.attempt.saturating_add(1);
        let token = Token { scope: SCOPE, position: self.sequence, delivery: self.attempt };
        let extensions = self.rare.as_ref().map(|rare| rare.extensions.clone()).unwrap_or_default();
        Handed::new(token, self.message.clone().into_message(extensions))
            .attempt(self.attempt)
            .published_at(Some(self.published_at))
            .offset(Some(self.sequence.cast_signed()))
    }

    /// A copy of the message, which was not handed out.
    pub(crate) fn copy(&self) -> Message {
        let extensions = self.rare.as_ref().map(|rare| rare.extensions.clone()).unwrap_or_default();
        self.message.clone().into_message(extensions)
    }

    /// What is left of it when it leaves its group.
    #[inline]
    pub(super) fn into_remains(self) -> Remains {
        Remains { message: self.message, rare: self.rare }
    }

    #[inline]
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Until when it is held.
    #[inline]
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.rare.as_ref()?.held_until
    }

    pub(super) fn hold(&mut self, until: Instant) {
        self.rare.get_or_insert_default().held_until = Some(until);
    }

    /// As it waits: neither outstanding nor held.
    pub(super) fn returned(mut self) -> Self {
        self.handled = false;
        if let Some(rare) = &mut self.rare {
            rare.held_until = None;
        }
        self
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
