//! [`DeadLetter`]: a message on its way to the dead-letter topic.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use watermill_core::{Message, dead_letter::REASON_BYTES_MAX, metadata_keys};

use crate::{
    PayloadColumn,
    marshaler::{self, Record, check_json},
    topic,
};

/// The metadata entry of a dead letter that holds, in base64, a payload that its column cannot hold.
const UNSTORABLE_PAYLOAD: &str = "payload_poisoned";

/// The metadata entry of a dead letter that holds the id of its message, where the column holds none such: it has another.
const UNSTORABLE_ID: &str = "uuid_poisoned";

/// The metadata entry of a dead letter that has lost its payload, which was so many bytes too many.
const LOST_PAYLOAD: &str = "payload_poisoned_bytes";

/// How much of a message its dead letter keeps. Whatever is refused is tried with less, for a dead letter that is
/// refused for ever holds up all that is to be recorded with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All of it, where its column can hold it.
    #[default]
    All,
    /// All of it, with its payload in the metadata, and those without NUL characters: a `jsonb` takes none.
    Plain,
    /// Who it is and why it is there: it is too large.
    Reason,
}

impl Keep {
    /// What is tried when this was refused.
    pub(crate) fn less(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::Plain),
            Self::Plain => Some(Self::Reason),
            Self::Reason => None,
        }
    }
}

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
    pub(crate) fn record(&self, topic: &str, column: PayloadColumn, keep: Keep) -> Record {
        let mut message = self.kept(column, keep);
        let metadata = message.metadata_mut();
        metadata.insert(metadata_keys::REASON_POISONED, text(&self.reason));
        metadata.insert(metadata_keys::TOPIC_POISONED, topic);
        metadata.insert(metadata_keys::SUBSCRIBER_POISONED, "sql");
        metadata.insert(metadata_keys::OFFSET_POISONED, self.offset.to_string());
        metadata.insert(metadata_keys::ATTEMPTS_POISONED, self.attempts.to_string());
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            metadata.insert(metadata_keys::FAILED_AT_POISONED, now.as_millis().to_string());
        }
        let id = self.message.id();
        if marshaler::check_id(id).is_ok() {
            return Record::of_row(message);
        }
        // Of a table that is not ours.
        metadata.insert(UNSTORABLE_ID, text(id));
        Record { uuid: Message::new("").id().clone(), ..Record::of_row(message) }
    }

    fn kept(&self, column: PayloadColumn, keep: Keep) -> Message {
        let payload = self.message.payload();
        if keep == Keep::Reason {
            let mut message = Message::with_id(self.message.id().clone(), Bytes::new());
            message.metadata_mut().insert(LOST_PAYLOAD, payload.len().to_string());
            return message;
        }
        let mut message = self.message.clone();
        let is_json = column == PayloadColumn::Json;
        if is_json && !payload.is_empty() && (keep == Keep::Plain || check_json(payload).is_err()) {
            message.metadata_mut().insert(UNSTORABLE_PAYLOAD, BASE64_STANDARD.encode(payload));
            message.set_payload(Bytes::new());
        }
        if keep == Keep::Plain {
            let plain = |text: &str| text.replace('\0', "\u{fffd}");
            let entries = message.metadata().iter().map(|(name, value)| (plain(name), plain(value)));
            *message.metadata_mut() = entries.collect::<Vec<_>>().into_iter().collect();
        }
        message
    }
}

/// A reason that every backend can carry, as the core's dead letters have it: one line of a bounded size. Whoever asks
/// PostgreSQL for one with a NUL in it gets an error, and whoever publishes it again somewhere else another.
fn text(reason: &str) -> String {
    const ELLIPSIS: &str = "...";
    let mut text = reason.replace(char::is_control, " ");
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

/// Says what is wrong with the topic for dead letters, if there is one.
pub(crate) fn check_topic(topic: Option<&str>, schema_qualified: bool) -> Result<(), String> {
    topic
        .map_or(Ok(()), |topic| topic::check_name(topic, schema_qualified))
        .map_err(|problem| format!("dead_letter_topic: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &'static [u8], column: PayloadColumn) -> (Bytes, String) {
        let message = Message::new(payload);
        let dead_letter = DeadLetter { offset: 7, message, reason: "no".to_owned(), attempts: 1 };
        let Record { payload, metadata, .. } = dead_letter.record("t", column, Keep::All);
        (payload, metadata)
    }

    #[test]
    fn what_a_column_of_json_cannot_hold_is_kept_in_the_metadata() {
        let (payload, metadata) = record(b"\xff", PayloadColumn::Json);
        assert_eq!(payload, "");
        assert!(metadata.contains(r#""payload_poisoned":"/w==""#), "{metadata}");
    }

    #[test]
    fn a_reason_is_one_line_of_a_bounded_size_without_control_characters() {
        let letter = |reason: &str| DeadLetter {
            offset: 7,
            message: Message::new("1"),
            reason: reason.to_owned(),
            attempts: 1,
        };
        let metadata = letter("a\0b\nc").record("t", PayloadColumn::Json, Keep::All).metadata;
        assert!(metadata.contains(r#""reason_poisoned":"a b c""#), "{metadata}");
        let metadata = letter(&"\u{fc}".repeat(1_000)).record("t", PayloadColumn::Json, Keep::All).metadata;
        assert!(metadata.len() < 2 * REASON_BYTES_MAX && metadata.contains("\u{fc}...\""), "{metadata}");
    }

    #[test]
    fn an_id_that_its_column_does_not_hold_is_kept_in_the_metadata() {
        let long = format!("order-{}\0", "7".repeat(60));
        let message = Message::with_id(long, "1");
        let letter = DeadLetter { offset: 7, message, reason: "no".to_owned(), attempts: 1 };
        for keep in [Keep::All, Keep::Plain, Keep::Reason] {
            let record = letter.record("t", PayloadColumn::Json, keep);
            assert!(record.uuid.len() <= 36, "{}", record.uuid);
            let kept = format!(r#""uuid_poisoned":"order-{} ""#, "7".repeat(60));
            assert!(record.metadata.contains(&kept), "{}", record.metadata);
        }
    }

    #[test]
    fn what_was_refused_is_tried_with_less() {
        let message = Message::with_id("id", r#""\u0000""#).with_metadata("a\0", "b\0");
        let letter = DeadLetter { offset: 7, message, reason: "no".to_owned(), attempts: 1 };
        let kept = |keep| letter.record("t", PayloadColumn::Json, keep);
        assert!(kept(Keep::All).metadata.contains("\\u0000"));
        let plain = kept(Keep::All.less().unwrap());
        assert_eq!(plain.payload, "");
        assert!(!plain.metadata.contains("\\u0000") && plain.metadata.contains("payload_poisoned"));
        let reason = kept(Keep::Plain.less().unwrap());
        assert!(reason.metadata.contains(r#""payload_poisoned_bytes":"8""#), "{}", reason.metadata);
        assert_eq!((reason.uuid.as_str(), Keep::Reason.less()), ("id", None));
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
