//! [`Stored`]: a row that is a message, kept as it was sent until that is handed out.
//!
//! A message is many small pieces of memory. Made when it is handed out, it gets those that the one before
//! it has just given back; made a batch ahead, thousands of them are in use at a time, and to find and to
//! merge them costs more than to read the row.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use watermill_core::Message;

use crate::{
    marshaler::{Columns, Unreadable},
    position::Position,
};

/// Rows share pieces of memory of this size, so that whoever keeps one payload keeps no more than that.
/// What is longer has a piece of its own.
const PIECE_BYTES: usize = 16 * 1024;

/// The columns of a row that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    columns: Bytes,
    uuid: usize,
    payload: usize,
    has_metadata: bool,
}

/// A row that was fetched.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) position: Position,
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) message: Result<Stored, Unreadable>,
}

/// Memory for the rows of one fetch.
#[derive(Debug, Default)]
pub(crate) struct Store {
    free: BytesMut,
}

impl Store {
    /// Keeps a row, if it is a message.
    pub(crate) fn keep(&mut self, columns: Columns<'_>) -> Result<Stored, Unreadable> {
        if let Err(error) = columns.check() {
            return Err(Unreadable { error, remains: columns.remains() });
        }
        let Columns { uuid, payload, metadata } = columns;
        let text = metadata.unwrap_or_default();
        let bytes = uuid.len() + payload.len() + text.len();
        if self.free.capacity() < bytes {
            self.free = BytesMut::with_capacity(bytes.max(PIECE_BYTES));
        }
        for column in [uuid, payload, text] {
            self.free.extend_from_slice(column);
        }
        let columns = self.free.split().freeze();
        Ok(Stored { columns, uuid: uuid.len(), payload: payload.len(), has_metadata: metadata.is_some() })
    }
}

impl Stored {
    /// The id of the message.
    pub(crate) fn id(&self) -> &str {
        std::str::from_utf8(&self.columns[..self.uuid]).expect("it was checked")
    }

    /// The message.
    pub(crate) fn message(&self) -> Message {
        let payload_end = self.uuid + self.payload;
        let columns = Columns {
            uuid: &self.columns[..self.uuid],
            payload: &[],
            metadata: self.has_metadata.then(|| &self.columns[payload_end..]),
        };
        columns.decode(self.columns.slice(self.uuid..payload_end)).expect("it was checked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(store: &mut Store, metadata: Option<&str>) -> Result<Stored, Unreadable> {
        store.keep(Columns { uuid: b"id", payload: b"payload", metadata: metadata.map(str::as_bytes) })
    }

    #[test]
    fn what_is_kept_can_be_read_and_what_cannot_be_read_is_not_kept() {
        let texts = [
            "{}",
            "null",
            " {} ",
            r#"{"a":"b"}"#,
            r#"{"a":"b","c":"ü"}"#,
            r#"{"a":"b",}"#,
            r#"{"a":"b"}}"#,
            r#"{"a":"b""c":"d"}"#,
            r#"{"a","b"}"#,
            r#"{"a":"b","c"}"#,
            r#"{"a":"b","c":1}"#,
            r#"{"a":"b"#,
            "{\"a\":\"b\nc\"}",
            r#"{"a":"b","a":"c"}"#,
            r#"{"\u00fc":"\n"}"#,
            r#"{"_watermill_key":"k"}"#,
            r#"{"_watermill_key_base64":"AP8="}"#,
            r#"{"_watermill_key_base64":"!"}"#,
            r#"{"_watermill_key":"k","_watermill_key_base64":"AP8="}"#,
            "",
            "{",
            "[]",
            "1",
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"b"} x"#,
        ];
        let mut store = Store::default();
        for text in texts {
            let columns = Columns { uuid: b"id", payload: b"", metadata: Some(text.as_bytes()) };
            match (keep(&mut store, Some(text)), columns.decode(Bytes::from("payload"))) {
                (Ok(kept), Ok(message)) => assert_eq!(kept.message(), message, "{text}"),
                (Err(_), Err(_)) => {}
                (kept, read) => panic!("{text}: {kept:?}, {read:?}"),
            }
        }
        assert!(keep(&mut store, None).unwrap().message().metadata().is_empty());
    }

    #[test]
    fn a_row_longer_than_a_piece_of_memory_is_kept_whole() {
        let mut store = Store::default();
        let payload = vec![7; PIECE_BYTES * 3];
        for _ in 0..3 {
            let long = store.keep(Columns { uuid: b"id", payload: &payload, metadata: None }).unwrap();
            assert_eq!(long.message().payload(), &payload[..]);
            assert_eq!(keep(&mut store, None).unwrap().message().payload(), "payload");
        }
    }
}
