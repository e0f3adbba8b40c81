//! [`DeadLetter`]: a message on its way to the dead-letter topic.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use watermill_core::{Message, metadata_keys};

use crate::{
    PayloadColumn,
    marshaler::{Record, check_json},
    topic,
};

/// The metadata entry of a dead letter that holds, in base64, a payload that its column cannot hold.
const UNSTORABLE_PAYLOAD: &str = "payload_poisoned";

/// A message that is to be moved to the dead-letter topic.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) offset: i64,
    pub(crate) message: Message,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
}

impl DeadLetter {
    /// The row there, which says why it is there, and where it was. Whatever the message is, `column` can
    /// hold it: one that cannot be moved would hold up everything that is to be recorded with it.
    pub(crate) fn record(&self, topic: &str, column: PayloadColumn) -> Record {
        let mut message = self.message.clone();
        let payload = message.payload().clone();
        if column == PayloadColumn::Json && !payload.is_empty() && check_json(&payload).is_err() {
            message.metadata_mut().insert(UNSTORABLE_PAYLOAD, BASE64_STANDARD.encode(&payload));
            message.set_payload(Bytes::new());
        }
        let metadata = message.metadata_mut();
        metadata.insert(metadata_keys::REASON_POISONED, &self.reason);
        metadata.insert(metadata_keys::TOPIC_POISONED, topic);
        metadata.insert(metadata_keys::SUBSCRIBER_POISONED, "sql");
        metadata.insert(metadata_keys::OFFSET_POISONED, self.offset.to_string());
        metadata.insert(metadata_keys::ATTEMPTS_POISONED, self.attempts.to_string());
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            metadata.insert(metadata_keys::FAILED_AT_POISONED, now.as_millis().to_string());
        }
        Record::of_row(message)
    }
}

/// Says what is wrong with the topic for dead letters, if there is one.
pub(crate) fn check_topic(topic: Option<&str>) -> Result<(), String> {
    topic.map_or(Ok(()), topic::check_characters).map_err(|problem| format!("dead_letter_topic: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &'static [u8], column: PayloadColumn) -> (Bytes, String) {
        let message = Message::new(payload);
        let dead_letter = DeadLetter { offset: 7, message, reason: "no".to_owned(), attempts: 1 };
        let Record { payload, metadata, .. } = dead_letter.record("t", column);
        (payload, metadata)
    }

    #[test]
    fn what_a_column_of_json_cannot_hold_is_kept_in_the_metadata() {
        let (payload, metadata) = record(b"\xff", PayloadColumn::Json);
        assert_eq!(payload, "");
        assert!(metadata.contains(r#""payload_poisoned":"/w==""#), "{metadata}");
    }

    #[test]
    fn what_the_column_can_hold_stays_where_it_is() {
        for (bytes, column) in [
            (&b"\xff"[..], PayloadColumn::Bytes),
            (b"", PayloadColumn::Bytes),
            (b"{}", PayloadColumn::Json),
            (b"", PayloadColumn::Json),
        ] {
            let (payload, metadata) = record(bytes, column);
            assert_eq!(payload, bytes);
            assert!(!metadata.contains("payload_poisoned"), "{metadata}");
        }
    }
}
