//! [`Record`]: what a broker's client hands out, read as a message when somebody looks.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Headers, Message, MessageId, Metadata};

/// A native record, kept as it came until the message made of it is looked at.
///
/// Many handlers look at the payload alone, and some at nothing: what they do not look at is then
/// neither copied nor decoded. See [`Message::from_record`].
pub trait Record: Send + Sync + 'static {
    /// The payload. Asked for once, when the message is made; it must stay where it is for as long as
    /// the record lives.
    fn payload(&self) -> &[u8];

    /// Reads everything else: id, key and metadata. Called at most once, by whoever looks first, and
    /// never if nobody does. It cannot fail: a backend decides before it delivers what is no message.
    fn read(&self) -> (MessageId, Option<Bytes>, Metadata);
}

/// A record and what was read from it.
pub(super) struct Unread<R: ?Sized> {
    read: OnceLock<Read>,
    record: R,
}

pub(super) struct Read {
    pub(super) id: MessageId,
    pub(super) headers: Headers,
}

/// Keeps the record alive for as long as its payload is.
struct Payload<R>(Arc<Unread<R>>);

impl Message {
    /// A message that is read from `record` when it is looked at; for backends. The payload is not
    /// copied: it, and every slice of it, keeps the record alive.
    pub fn from_record(record: impl Record) -> Self {
        let record = Arc::new(Unread { read: OnceLock::new(), record });
        let payload = Bytes::from_owner(Payload(record.clone()));
        Self::unread(payload, record)
    }
}

impl<R: Record + ?Sized> Unread<R> {
    pub(super) fn read(&self) -> &Read {
        self.read.get_or_init(|| {
            let (id, key, metadata) = self.record.read();
            Read { id, headers: Headers { key, metadata } }
        })
    }
}

impl<R: Record> AsRef<[u8]> for Payload<R> {
    fn as_ref(&self) -> &[u8] {
        self.0.record.payload()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how often it was read.
    struct Letter(Arc<AtomicUsize>);

    impl Record for Letter {
        fn payload(&self) -> &[u8] {
            b"payload"
        }

        fn read(&self) -> (MessageId, Option<Bytes>, Metadata) {
            self.0.fetch_add(1, Ordering::Relaxed);
            ("id".into(), Some("key".into()), [("a", "b")].into_iter().collect())
        }
    }

    fn letter() -> (Message, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        (Message::from_record(Letter(reads.clone())), reads)
    }

    fn expected() -> Message {
        Message::with_id("id", "payload").with_key("key").with_metadata("a", "b")
    }

    #[test]
    fn a_record_is_read_once_and_only_when_somebody_looks() {
        let (message, reads) = letter();
        let copy = message.clone();
        assert_eq!(message.payload(), "payload");
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert_eq!(message, expected());
        assert_eq!(copy.id(), "id");
        assert_eq!(copy.key().unwrap(), "key");
        assert_eq!(copy.into_parts(), expected().into_parts());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn changing_a_copy_of_an_unread_message_leaves_the_other_as_it_came() {
        let (message, reads) = letter();
        let mut copy = message.clone();
        copy.metadata_mut().insert("c", "d");
        copy.set_payload("other");
        assert_eq!(copy.id(), "id");
        assert_eq!(copy.metadata().len(), 2);
        let mut keyless = message.clone();
        keyless.set_key(None);
        assert_eq!(keyless.key(), None);
        assert_eq!(message, expected());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_payload_keeps_the_record_alive() {
        let (message, reads) = letter();
        let payload = message.payload().slice(1..3);
        drop(message);
        assert_eq!(Arc::strong_count(&reads), 2);
        assert_eq!(payload, "ay");
        drop(payload);
        assert_eq!(Arc::strong_count(&reads), 1);
    }
}
