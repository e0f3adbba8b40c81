//! [`Stored`]: a row that is a message, kept as it was sent until that is handed out.
//!
//! A message is many small pieces of memory. Made when it is handed out, it gets those that the one before
//! it has just given back; made a batch ahead, thousands of them are in use at a time, and to find and to
//! merge them costs more than to read the row.

use std::{pin::pin, time::SystemTime};

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt as _};
use watermill_core::{Message, metadata_keys};

use crate::{
    marshaler::{self, Columns, Unreadable},
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

/// How much one fetch may bring into memory.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub(crate) rows: usize,
    /// Of the columns that become a message. One row is taken however large it is.
    pub(crate) bytes: usize,
}

/// The rows of one fetch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// Whether there was one that did not fit. What is behind it is still on its way: over that connection nothing
    /// can be asked without waiting for all of it.
    pub(crate) is_cut: bool,
}

impl Rows {
    /// Takes rows as long as they fit.
    pub(crate) async fn gather(
        rows: impl Stream<Item = sqlx::Result<Row>>,
        limit: Limit,
    ) -> sqlx::Result<Self> {
        let mut rows = pin!(rows);
        let (mut gathered, mut bytes) = (Self::default(), 0);
        while let Some(row) = rows.try_next().await? {
            bytes += row.bytes();
            if bytes > limit.bytes && !gathered.rows.is_empty() {
                gathered.is_cut = true;
                break;
            }
            gathered.rows.push(row);
        }
        Ok(gathered)
    }

    /// Whether there are likely more.
    pub(crate) fn are_more(&self, limit: Limit) -> bool {
        self.is_cut || self.rows.len() == limit.rows
    }
}

impl Row {
    /// What it takes in memory, nearly.
    pub(crate) fn bytes(&self) -> usize {
        match &self.message {
            Ok(stored) => stored.bytes(),
            Err(unreadable) => unreadable.remains.payload().len(),
        }
    }
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

    /// What it takes in memory, nearly.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.len()
    }

    /// When the metadata say that it is due, in milliseconds since the Unix epoch; `None` where what they say is no time.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        let metadata = self.metadata()?;
        // Nearly all say nothing, which needs no parser to tell. An escape may hide a name.
        let name = metadata_keys::DELAYED_UNTIL.as_bytes();
        let may_say = metadata.contains(&b'\\') || metadata.windows(name.len()).any(|bytes| bytes == name);
        if may_say { marshaler::due_ms(&self.message()).ok().flatten() } else { None }
    }

    fn metadata(&self) -> Option<&[u8]> {
        self.has_metadata.then(|| &self.columns[self.uuid + self.payload..])
    }

    /// The message.
    pub(crate) fn message(&self) -> Message {
        let payload_end = self.uuid + self.payload;
        let columns = Columns { uuid: &self.columns[..self.uuid], payload: &[], metadata: self.metadata() };
        columns.decode(self.columns.slice(self.uuid..payload_end)).expect("it was checked")
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

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

    #[tokio::test]
    async fn rows_are_taken_as_long_as_they_fit_and_what_is_behind_them_is_not_looked_at() {
        let sizes = [10, 20, 30, 500, 5, 5];
        for (limit, taken, is_cut, looked_at) in
            [(1_000, 6, false, 6), (60, 3, true, 4), (59, 2, true, 3), (1, 1, true, 2), (566, 5, true, 6)]
        {
            let mut looks = 0;
            let rows = futures::stream::iter(sizes).map(|size| {
                looks += 1;
                let payload = vec![7; size - 1];
                let columns = Columns { uuid: b"i", payload: &payload, metadata: None };
                let message = Store::default().keep(columns);
                Ok(Row { position: 1.into(), published_at: None, message })
            });
            let rows = Rows::gather(rows, Limit { rows: 100, bytes: limit }).await.unwrap();
            assert_eq!((rows.rows.len(), rows.is_cut, looks), (taken, is_cut, looked_at), "{limit}");
        }
    }

    #[test]
    fn the_due_time_is_found_however_it_is_written() {
        let due = |metadata| keep(&mut Store::default(), metadata).unwrap().due_ms();
        assert_eq!(due(Some(r#"{"_watermill_delayed_until":"1970-01-01T00:00:01Z"}"#)), Some(1_000));
        assert_eq!(due(Some(r#"{"\u005fwatermill_delayed_until":"1970-01-01T00:00:01Z"}"#)), Some(1_000));
        assert_eq!(due(Some(r#"{"_watermill_delayed_until":"soon"}"#)), None);
        assert_eq!(due(Some(r#"{"other":"_watermill_delayed_until"}"#)), None);
        assert_eq!(due(Some("{}")), None);
        assert_eq!(due(None), None);
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
