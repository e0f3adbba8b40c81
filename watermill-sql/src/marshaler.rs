//! [`Message`] to and from the columns of a row. No I/O.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use watermill_core::{
    Message, MessageId, Metadata,
    backend::{key_entry, key_of_entry, refuse_key_entries, take_key},
    error::BoxError,
    message::DelayError,
    metadata_keys,
};

use crate::{Layout, PayloadColumn};

/// The width of the id's column on PostgreSQL and MySQL. Kept on SQLite too, so that a topic can move.
const ID_CHARS_MAX: usize = 36;

/// The metadata entry of a dead letter that holds the metadata column of an unreadable row.
const UNREADABLE_METADATA: &str = "metadata_poisoned";

/// The columns of a row that is inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) uuid: MessageId,
    /// An empty one is null where the column holds JSON.
    pub(crate) payload: Bytes,
    /// A JSON object of text.
    pub(crate) metadata: String,
    /// When the message is due, in milliseconds since the Unix epoch; `None` for at once.
    pub(crate) due_ms: Option<i64>,
}

/// A row that is no message.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) error: BoxError,
    /// What can be kept of it: its id, its payload, and the metadata column as text.
    pub(crate) remains: Message,
}

/// The columns of a row, as bytes: not every writer writes text where text belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'r> {
    pub(crate) uuid: &'r [u8],
    pub(crate) payload: &'r [u8],
    /// `None` for SQL's null.
    pub(crate) metadata: Option<&'r [u8]>,
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
        refuse_key_entries(metadata)?;
        let due_ms = match layout {
            Layout::Log => None,
            Layout::Queue => due_ms(&message).map_err(|error| error.to_string())?,
        };
        Ok(Self { due_ms, ..Self::of_row(message) })
    }

    /// The row of a message that came from a row, and so fits into one.
    pub(crate) fn of_row(message: Message) -> Self {
        let (uuid, key, mut metadata, payload) = message.into_parts();
        if let Some(key) = &key {
            let (name, value) = key_entry(key);
            metadata.insert(name, value);
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
pub(crate) fn check_json(payload: &[u8]) -> Result<(), BoxError> {
    serde_json::from_str::<IgnoredAny>(std::str::from_utf8(payload)?)?;
    Ok(())
}

impl Columns<'_> {
    /// The message of a row, whose payload is given as it is to be kept.
    pub(crate) fn decode(self, payload: Bytes) -> Result<Message, BoxError> {
        let mut message = Message::with_id(self.uuid()?, payload);
        let Some(metadata) = self.metadata()? else { return Ok(message) };
        let mut metadata: Metadata = serde_json::from_str(metadata).map_err(not_text)?;
        let key = take_key(&mut metadata)?;
        if !metadata.is_empty() {
            *message.metadata_mut() = metadata;
        }
        if key.is_some() {
            message.set_key(key);
        }
        Ok(message)
    }

    /// Whether there is a message, without making it.
    pub(crate) fn check(self) -> Result<(), BoxError> {
        self.uuid()?;
        let Some(metadata) = self.metadata()? else { return Ok(()) };
        if is_plain(metadata) {
            return Ok(());
        }
        let Keys { has_key, encoded } = serde_json::from_str(metadata).map_err(not_text)?;
        match encoded {
            Some(_) if has_key => Err("there are two keys in the metadata".into()),
            Some(encoded) => key_of_entry(metadata_keys::KEY_BASE64, &encoded).transpose().map(drop),
            None => Ok(()),
        }
    }

    /// What can be kept of a row that is no message: its id, its payload, and the metadata column as text.
    pub(crate) fn remains(self) -> Message {
        let uuid = String::from_utf8_lossy(self.uuid).into_owned();
        let metadata = String::from_utf8_lossy(self.metadata.unwrap_or_default());
        Message::with_id(uuid, Bytes::copy_from_slice(self.payload))
            .with_metadata(UNREADABLE_METADATA, metadata)
    }

    fn uuid(&self) -> Result<&str, BoxError> {
        Ok(std::str::from_utf8(self.uuid).map_err(|error| format!("uuid is not text: {error}"))?)
    }

    /// Text, because its parser need not check what it takes out of it; `None` where it says nothing.
    fn metadata(&self) -> Result<Option<&str>, BoxError> {
        match self.metadata {
            None | Some(b"{}" | b"null") => Ok(None),
            Some(column) => Ok(Some(std::str::from_utf8(column).map_err(not_text)?)),
        }
    }
}

/// Whether this is surely an object of text that says nothing of a key in base64: no spaces and no escapes, as our
/// publishers and Go's write most. What is not is looked at by a parser, which takes several times as long.
fn is_plain(metadata: &str) -> bool {
    let Some(mut rest) = metadata.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return false;
    };
    loop {
        let Some((name, after)) = plain_text(rest) else { return false };
        let Some((_, after)) = after.strip_prefix(':').and_then(plain_text) else { return false };
        if name == metadata_keys::KEY_BASE64 {
            return false;
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

/// A text at the beginning, and what comes after it.
fn plain_text(json: &str) -> Option<(&str, &str)> {
    let inside = json.strip_prefix('"')?;
    let end = inside.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    inside[end..].strip_prefix('"').map(|after| (&inside[..end], after))
}

fn not_text(error: impl fmt::Display) -> String {
    format!("metadata is not an object of text: {error}")
}

/// What metadata say of the key: enough to know that they can be read, without keeping them.
#[derive(Default)]
struct Keys {
    has_key: bool,
    encoded: Option<String>,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text, or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Keys, E> {
                Ok(Keys::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some(name) = map.next_key_seed(Text(Name::of))? {
                    match name {
                        Name::Other => map.next_value_seed(Text(|_: &str| ()))?,
                        Name::Key => {
                            keys.has_key = true;
                            map.next_value_seed(Text(|_: &str| ()))?;
                        }
                        Name::Encoded => keys.encoded = Some(map.next_value()?),
                    }
                }
                Ok(keys)
            }
        }

        deserializer.deserialize_any(Pairs)
    }
}

enum Name {
    Key,
    Encoded,
    Other,
}

impl Name {
    fn of(text: &str) -> Self {
        match text {
            metadata_keys::KEY => Self::Key,
            metadata_keys::KEY_BASE64 => Self::Encoded,
            _ => Self::Other,
        }
    }
}

/// Text that is looked at and not kept.
struct Text<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(record: &Record) -> Columns<'_> {
        Columns {
            uuid: record.uuid.as_bytes(),
            payload: &record.payload,
            metadata: Some(record.metadata.as_bytes()),
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
            assert_eq!(columns(&record).decode(record.payload.clone()).unwrap(), message);
        }
    }

    #[test]
    fn null_metadata_reads_as_empty() {
        // Go writes JSON's null for a message without metadata.
        for metadata in [None, Some("null"), Some("{}"), Some(" null "), Some("{ }")] {
            let metadata = metadata.map(str::as_bytes);
            let columns = Columns { uuid: b"1", payload: b"", metadata };
            assert!(columns.decode(Bytes::new()).unwrap().metadata().is_empty());
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
            let columns = Columns { uuid: b"1", payload: b"kept", metadata: Some(text.as_bytes()) };
            assert!(columns.check().is_err(), "{text}");
            let remains = columns.remains();
            assert_eq!(remains.payload(), "kept");
            assert_eq!(remains.metadata().get(UNREADABLE_METADATA), Some(text));
        }
    }
}
