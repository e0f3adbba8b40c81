//! [`Message`] to and from what is sent on a channel, without I/O.
//!
//! ```text
//!  c1 'w' 'm' 01 | bytes of the id | id | bytes of the metadata | metadata, in MessagePack | payload
//!   mark             u32, big endian         likewise                as in a stream             the rest
//! ```
//!
//! What does not begin with the mark was published by somebody else, and is a message of that payload.

use bytes::{Buf as _, BufMut as _, Bytes};
use watermill_core::{Message, error::BoxError, metadata_keys::MESSAGE_UUID};

use crate::marshaler::{self, METADATA, PAYLOAD};

/// Its first byte is in no text in UTF-8; its last is the version.
const MARK: &[u8] = b"\xc1wm\x01";

/// The frame of a message, or why there is none.
pub(super) fn write(message: Message, value_bytes_max: usize) -> Result<Vec<u8>, String> {
    let [(_, id), (_, metadata), (_, payload)] = marshaler::write(message, value_bytes_max)?;
    let mut frame = Vec::with_capacity(MARK.len() + 8 + id.len() + metadata.len() + payload.len());
    frame.put_slice(MARK);
    for value in [id, metadata] {
        let length = u32::try_from(value.len()).map_err(|_| "its id or its metadata have 4 GiB")?;
        frame.put_u32(length);
        frame.put_slice(&value);
    }
    frame.put_slice(&payload);
    Ok(frame)
}

/// The message of what came on a channel. Its payload is a part of `sent`.
pub(super) fn read(mut sent: Bytes) -> Result<Message, BoxError> {
    if !sent.starts_with(MARK) {
        return Ok(Message::new(sent));
    }
    sent.advance(MARK.len());
    let [id, metadata] = [value(&mut sent)?, value(&mut sent)?];
    let fields = [(MESSAGE_UUID, id), (METADATA, metadata), (PAYLOAD, sent)];
    marshaler::read(fields.into_iter().flat_map(|(name, value)| [Bytes::from(name), value]).collect())
}

fn value(rest: &mut Bytes) -> Result<Bytes, BoxError> {
    let length = rest.try_get_u32()? as usize;
    if length > rest.len() {
        return Err(format!("it ends {} bytes too early", length - rest.len()).into());
    }
    Ok(rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_this_page_says() {
        let message = Message::with_id("1", "hello").with_metadata("a", "b");
        let frame = write(message.clone(), 100).unwrap();
        assert_eq!(frame, b"\xc1wm\x01\0\0\0\x011\0\0\0\x05\x81\xa1a\xa1bhello");
        assert_eq!(read(frame.into()).unwrap(), message);
    }

    #[test]
    fn whatever_a_message_has_arrives() {
        let empty = Message::with_id("", "");
        let full = Message::with_id("ü", &b"\xc1wm\x01"[..]).with_key(&b"\xff\0"[..]).with_metadata("ü", "");
        for message in [empty, full] {
            assert_eq!(read(write(message.clone(), 100).unwrap().into()).unwrap(), message);
        }
    }

    #[test]
    fn what_others_publish_is_a_payload() {
        for sent in [&b"user:42"[..], b"", b"\xc1wm", b"\xc1wm\x02x"] {
            let message = read(Bytes::from_static(sent)).unwrap();
            assert_eq!((&**message.payload(), message.metadata().is_empty()), (sent, true));
            assert!(!message.id().as_str().is_empty());
        }
    }

    #[test]
    fn a_frame_that_was_cut_or_says_nonsense_is_an_error() {
        let frame = Bytes::from(write(Message::with_id("1", "").with_metadata("a", "b"), 100).unwrap());
        for cut in MARK.len()..frame.len() {
            assert!(read(frame.slice(..cut)).is_err(), "{cut}");
        }
        assert!(read(Bytes::from_static(b"\xc1wm\x01\xff\xff\xff\xff")).is_err());
        assert!(read(Bytes::from_static(b"\xc1wm\x01\0\0\0\x01\xff\0\0\0\0")).is_err());
    }
}
