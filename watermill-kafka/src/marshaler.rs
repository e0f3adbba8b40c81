//! [`Message`] to and from Kafka's record, without I/O: Go Watermill's headers.
//!
//! The value is the payload, none makes a tombstone, the key is the message's key, and the headers are the id under
//! `_watermill_message_uuid` and one for each metadata entry.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use rdkafka::message::{BorrowedHeaders, Header, Headers, OwnedHeaders};
use watermill_core::{Message, MessageId, Metadata, metadata_keys::MESSAGE_UUID};

/// A message that no record can hold, and why.
pub(crate) type Unrepresentable = String;

/// librdkafka's own bound for what a record may take beside its key, value and headers.
const RECORD_OVERHEAD_MAX: usize = 36;

/// Says what keeps a message from being a record of at most `bytes_max` bytes, counted as librdkafka does.
pub(crate) fn check(message: &Message, bytes_max: usize) -> Result<(), Unrepresentable> {
    let mut bytes = RECORD_OVERHEAD_MAX + message.payload().len() + message.key().map_or(0, |key| key.len());
    bytes += header_bytes(MESSAGE_UUID, message.id().as_str());
    for (name, value) in message.metadata().iter() {
        if name == MESSAGE_UUID {
            return Err(format!("the metadata has an entry {MESSAGE_UUID:?}, which is where the id goes"));
        }
        // Clients in C, ours included, read names up to the first NUL.
        if name.contains('\0') {
            return Err(format!("the metadata has an entry {name:?}, with a NUL in its name"));
        }
        bytes += header_bytes(name, value);
    }
    if bytes > bytes_max {
        let id = message.id();
        return Err(format!("message {id:?} takes {bytes} bytes, more than message.max.bytes, {bytes_max}"));
    }
    Ok(())
}

/// The value of a message's record; a tombstone has none.
pub(crate) fn value(message: &Message) -> Option<&[u8]> {
    (!message.is_tombstone()).then(|| &message.payload()[..])
}

/// The headers of a message that was checked.
pub(crate) fn headers(message: &Message) -> OwnedHeaders {
    let metadata = message.metadata();
    let mut headers = OwnedHeaders::new_with_capacity(metadata.len() + 1)
        .insert(Header { key: MESSAGE_UUID, value: Some(message.id().as_str()) });
    for (name, value) in metadata.iter() {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    headers
}

/// A header with the lengths before its name and its value.
fn header_bytes(name: &str, value: &str) -> usize {
    // A zigzag varint: a bit for the sign, then seven in each byte.
    let length = |text: &str| (usize::BITS - (text.len() << 1).leading_zeros()).max(1).div_ceil(7) as usize;
    length(name) + name.len() + length(value) + value.len()
}

/// What a record's message is read from. `M` is librdkafka's record, in whatever keeps it alive.
pub(crate) fn read<M>(record: &M) -> (MessageId, Option<Bytes>, Metadata)
where
    M: rdkafka::Message<Headers = BorrowedHeaders>,
{
    let key = record.key().map(Bytes::copy_from_slice);
    let (id, metadata) = record.headers().map(read_headers).unwrap_or_default();
    (id, key, metadata)
}

/// Reads what any writer may have written: of headers of one name the last counts, no value is the
/// empty one, and what is not UTF-8 is shown with replacement characters. So no record is ever
/// undecodable.
fn read_headers(headers: &impl Headers) -> (MessageId, Metadata) {
    let all = || read_all(headers, |at| headers.try_get(at));
    // The client panics on a name that is not UTF-8. Without this, one foreign record would stop its
    // partition.
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|_| {
        tracing::warn!("left out headers whose names are not UTF-8");
        read_all(headers, |at| catch_unwind(AssertUnwindSafe(|| headers.try_get(at))).ok().flatten())
    })
}

fn read_all<'a>(
    headers: &'a impl Headers,
    get: impl Fn(usize) -> Option<Header<'a, &'a [u8]>>,
) -> (MessageId, Metadata) {
    let mut id: &[u8] = b"";
    let pairs = (0..headers.count()).filter_map(|at| {
        let Header { key, value } = get(at)?;
        let value = value.unwrap_or_default();
        if key == MESSAGE_UUID {
            id = value;
            return None;
        }
        Some((key, value))
    });
    let metadata = Metadata::packed_utf8(pairs);
    match (str::from_utf8(id), metadata) {
        (Ok(id), Some(metadata)) => (MessageId::from(id), metadata),
        _ => repair_all(headers, get),
    }
}

/// The same where a value is not UTF-8.
#[cold]
fn repair_all<'a>(
    headers: &'a impl Headers,
    get: impl Fn(usize) -> Option<Header<'a, &'a [u8]>>,
) -> (MessageId, Metadata) {
    let mut id = Cow::Borrowed("");
    let pairs = (0..headers.count()).filter_map(|at| {
        let Header { key, value } = get(at)?;
        let value = String::from_utf8_lossy(value.unwrap_or_default());
        if key == MESSAGE_UUID {
            id = value;
            return None;
        }
        Some((key, value))
    });
    let metadata = Metadata::packed(pairs);
    (MessageId::from(&*id), metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers of which some have names that the client panics on.
    struct Foreign(Vec<Result<(&'static str, &'static [u8]), ()>>);

    impl Headers for Foreign {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn try_get(&self, at: usize) -> Option<Header<'_, &[u8]>> {
            let (key, value) = self.0.get(at)?.expect("the client panics here");
            Some(Header { key, value: Some(value) })
        }
    }

    #[test]
    fn a_header_whose_name_is_not_text_is_left_out_and_the_others_are_read() {
        let headers =
            Foreign(vec![Ok(("a", b"1")), Err(()), Ok((MESSAGE_UUID, b"id")), Err(()), Ok(("b", b"2"))]);
        let (id, metadata) = read_headers(&headers);
        assert_eq!(id, "id");
        assert_eq!(metadata, [("a", "1"), ("b", "2")].into_iter().collect());
    }

    #[test]
    fn a_value_that_is_not_text_is_shown_with_replacement_characters_and_the_others_as_they_are() {
        let headers = Foreign(vec![
            Ok(("a", "ü".as_bytes())),
            Ok((MESSAGE_UUID, b"i\xffd")),
            Ok(("b", b"1\xff")),
            Ok(("a", b"2")),
        ]);
        let (id, metadata) = read_headers(&headers);
        assert_eq!(id, "i\u{fffd}d");
        assert_eq!(metadata, [("a", "2"), ("b", "1\u{fffd}")].into_iter().collect());
    }

    #[test]
    fn values_that_are_text_only_together_are_shown_with_replacement_characters() {
        let headers = Foreign(vec![Ok(("", b"1\xc3")), Ok(("", b"\xbc")), Ok((MESSAGE_UUID, b"\xbc"))]);
        let (id, metadata) = read_headers(&headers);
        assert_eq!(id, "\u{fffd}");
        assert_eq!(metadata, [("", "\u{fffd}")].into_iter().collect());
    }

    #[test]
    fn the_id_comes_first_and_metadata_in_its_order() {
        let message = Message::with_id("id", "x").with_metadata("b", "").with_metadata("a", "ü");
        let headers = headers(&message);
        let written: Vec<_> = headers.iter().map(|header| (header.key, header.value.unwrap())).collect();
        assert_eq!(written, [(MESSAGE_UUID, &b"id"[..]), ("a", "ü".as_bytes()), ("b", b"")]);
        assert_eq!(read_headers(&headers), ("id".into(), message.metadata().clone()));
    }

    #[test]
    fn metadata_that_no_header_can_hold_is_refused_with_the_reason() {
        for name in [MESSAGE_UUID, "a\0b"] {
            let refused = check(&Message::new("x").with_metadata(name, "1"), usize::MAX).unwrap_err();
            assert!(refused.contains(&format!("{name:?}")), "{refused}");
        }
    }

    #[test]
    fn the_length_before_a_name_grows_with_it() {
        let bytes = |length| header_bytes("", &"x".repeat(length)) - length;
        assert_eq!([bytes(0), bytes(63), bytes(64), bytes(8191), bytes(8192)], [2, 2, 3, 3, 4]);
    }
}
