//! [`Message`] to and from the columns of a row. No I/O.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::de::IgnoredAny;
use watermill_core::{Message, MessageId, Metadata, error::BoxError, message::DelayError, metadata_keys};

use crate::{Layout, PayloadColumn, position::Position};

/// The width of the id's column on PostgreSQL and MySQL. Kept on SQLite too, so that a topic can move.
const ID_CHARS_MAX: usize = 36;

/// The metadata entry of a dead letter that holds the metadata column of an unreadable row.
const UNREADABLE_METADATA: &str = "metadata_poisoned";

/// The columns of a row that is inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) uuid: MessageId,
    pub(crate) payload: Bytes,
    /// A JSON object of text.
    pub(crate) metadata: String,
    /// When the message is due, in milliseconds since the Unix epoch; `None` for at once.
    pub(crate) due_ms: Option<i64>,
}

/// A row that was fetched.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) position: Position,
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) columns: Columns,
}

/// The columns of a row, as bytes: not every writer writes text where text belongs.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) uuid: Vec<u8>,
    pub(crate) payload: Bytes,
    /// `None` for SQL's null.
    pub(crate) metadata: Option<Vec<u8>>,
}

impl Record {
    /// The row of a message, or why no row can hold it.
    pub(crate) fn encode(message: Message, payload: PayloadColumn, layout: Layout) -> Result<Self, String> {
        let (uuid, metadata) = (message.id(), message.metadata());
        let chars = uuid.chars().count();
        if chars > ID_CHARS_MAX {
            return Err(format!("the id {uuid:?} has {chars} characters, its column holds {ID_CHARS_MAX}"));
        }
        if payload == PayloadColumn::Json
            && let Err(error) = check_json(message.payload())
        {
            return Err(format!(
                "the payload of message {uuid:?} is not JSON ({error}), which its column holds: \
                 send JSON, or use PayloadColumn::Bytes"
            ));
        }
        if uuid.contains('\0') {
            return Err(format!("the id {uuid:?} contains a NUL character, which no text column holds"));
        }
        // With these in the metadata the message would come back with another key.
        for reserved in [metadata_keys::KEY, metadata_keys::KEY_BASE64] {
            if metadata.contains(reserved) {
                return Err(format!(
                    "the metadata entry {reserved:?} is reserved for the key: use Message::with_key"
                ));
            }
        }
        let due_ms = match layout {
            Layout::Log => None,
            Layout::Queue => due_ms(&message).map_err(|error| error.to_string())?,
        };
        Ok(Self { due_ms, ..Self::of_row(message) })
    }

    /// The row of a message that came from a row, and so fits into one.
    pub(crate) fn of_row(message: Message) -> Self {
        let (uuid, key, mut metadata, payload) = message.into_parts();
        if let Some(key) = key {
            match std::str::from_utf8(&key) {
                Ok(text) => metadata.insert(metadata_keys::KEY, text),
                Err(_) => metadata.insert(metadata_keys::KEY_BASE64, BASE64_STANDARD.encode(&key)),
            };
        }
        // A map of text always serialises.
        let metadata = serde_json::to_string(&metadata).expect("text is JSON");
        Self { uuid, payload, metadata, due_ms: None }
    }
}

/// When a message is due. A time before the epoch is as good as none.
pub(crate) fn due_ms(message: &Message) -> Result<Option<i64>, DelayError> {
    let due = message.delayed_until()?;
    let since_epoch = due.and_then(|due| due.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(since_epoch.map(|since| i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)))
}

/// Text first, because the parser does not look into what it ignores.
fn check_json(payload: &[u8]) -> Result<(), BoxError> {
    serde_json::from_str::<IgnoredAny>(std::str::from_utf8(payload)?)?;
    Ok(())
}

impl Columns {
    /// The message of a row.
    pub(crate) fn decode(&self) -> Result<Message, BoxError> {
        let uuid = std::str::from_utf8(&self.uuid).map_err(|error| format!("uuid is not text: {error}"))?;
        let mut metadata: Metadata = match &self.metadata {
            Some(text) => serde_json::from_slice(text)
                .map_err(|error| format!("metadata is not an object of text: {error}"))?,
            None => Metadata::new(),
        };
        let key = match (metadata.remove(metadata_keys::KEY), metadata.remove(metadata_keys::KEY_BASE64)) {
            (None, None) => None,
            (Some(text), None) => Some(Bytes::from(text)),
            (None, Some(encoded)) => Some(Bytes::from(
                BASE64_STANDARD.decode(encoded).map_err(|error| format!("the key is not base64: {error}"))?,
            )),
            (Some(_), Some(_)) => return Err("the row has two keys".into()),
        };
        let mut message = Message::with_id(uuid, self.payload.clone());
        *message.metadata_mut() = metadata;
        message.set_key(key);
        Ok(message)
    }

    /// What can be kept of a row that is no message: its id, its payload, and the metadata column as text.
    pub(crate) fn remains(&self) -> Message {
        let uuid = String::from_utf8_lossy(&self.uuid).into_owned();
        let metadata = String::from_utf8_lossy(self.metadata.as_deref().unwrap_or_default());
        Message::with_id(uuid, self.payload.clone()).with_metadata(UNREADABLE_METADATA, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(record: Record) -> Columns {
        Columns {
            uuid: record.uuid.as_bytes().to_vec(),
            payload: record.payload,
            metadata: Some(record.metadata.into_bytes()),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        let messages = [
            Message::new("payload").with_metadata("k", "v").with_key("customer-7"),
            Message::with_id("", "").with_metadata("", "").with_key(""),
            Message::new(vec![0, 159, 146, 150]).with_key(vec![255, 0]),
            Message::with_id("ü".repeat(36), "x").with_metadata("<&>\u{2028}", "\0\"\\"),
        ];
        for message in messages {
            let record = Record::encode(message.clone(), PayloadColumn::Bytes, Layout::Log).unwrap();
            assert_eq!(columns(record).decode().unwrap(), message);
        }
    }

    #[test]
    fn null_metadata_reads_as_empty() {
        // Go writes JSON's null for a message without metadata.
        for metadata in [None, Some(b"null".to_vec()), Some(b"{}".to_vec())] {
            let columns = Columns { uuid: b"1".to_vec(), payload: Bytes::new(), metadata };
            assert!(columns.decode().unwrap().metadata().is_empty());
        }
    }

    #[test]
    fn what_no_row_can_hold_is_refused_with_the_reason() {
        let long = Record::encode(Message::with_id("x".repeat(37), ""), PayloadColumn::Bytes, Layout::Log)
            .unwrap_err();
        assert!(long.contains("36"), "{long}");
        let reserved = Message::new("").with_metadata(metadata_keys::KEY, "k");
        let reserved = Record::encode(reserved, PayloadColumn::Bytes, Layout::Log).unwrap_err();
        assert!(reserved.contains("with_key"), "{reserved}");
        for text in ["", "text", "{", "1 2"] {
            let error = Record::encode(Message::new(text), PayloadColumn::Json, Layout::Log).unwrap_err();
            assert!(error.contains("PayloadColumn::Bytes"), "{error}");
        }
        Record::encode(Message::new("{\"a\":[1]}"), PayloadColumn::Json, Layout::Log).unwrap();
    }

    #[test]
    fn metadata_that_is_not_an_object_of_text_is_an_error() {
        for text in ["", "[]", "1", r#"{"a":1}"#, r#"{"a":null}"#, "{"] {
            let metadata = Some(text.as_bytes().to_vec());
            let columns = Columns { uuid: b"1".to_vec(), payload: Bytes::from("kept"), metadata };
            assert!(columns.decode().is_err(), "{text}");
            assert_eq!(columns.remains().payload(), "kept");
            assert_eq!(columns.remains().metadata().get(UNREADABLE_METADATA), Some(text));
        }
    }
}
