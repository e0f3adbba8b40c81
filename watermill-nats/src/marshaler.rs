//! [`Message`] to and from a message of NATS, without I/O: as Go Watermill's `NATSMarshaler`, its default, writes them.
//!
//! The body is the payload; the headers are the id under `_watermill_message_uuid` and one for each entry of the metadata.

use async_nats::HeaderMap;
use bytes::Bytes;
use watermill_core::{
    Message, MessageId,
    backend::{key_entry_where, key_of_entry, refuse_key_entries},
    metadata_keys::MESSAGE_UUID,
};

/// The server acts upon headers that begin so, and its own begin so.
const RESERVED: &str = "nats-";

/// What is sent of a message, or why nothing is. `deduplicate` names it by its id to the server; `bytes_max` is for headers and
/// body as they are on the wire.
pub(crate) fn write(
    message: Message,
    deduplicate: bool,
    bytes_max: usize,
) -> Result<(HeaderMap, Bytes), String> {
    let (id, key, metadata, payload) = message.into_parts();
    refuse_key_entries(&metadata)?;
    let mut writing = Writing::default();
    if !is_value(id.as_str()) {
        return Err(format!(
            "its id {:?} has line breaks, or spaces around it: headers hold neither",
            id.as_str()
        ));
    }
    writing.add(MESSAGE_UUID, id.as_str());
    if deduplicate && !id.as_str().is_empty() {
        writing.add("Nats-Msg-Id", id.as_str());
    }
    if let Some(key) = &key {
        let (name, value) = key_entry_where(key, is_value);
        writing.add(name, &value);
    }
    for (name, value) in metadata.iter() {
        if name == MESSAGE_UUID || is_reserved(name) {
            return Err(format!(
                "the metadata entry {name:?} is reserved: the id's header, or the server's own"
            ));
        }
        if !is_name(name) || !is_value(value) {
            return Err(format!(
                "the metadata entry {name:?} is no header: names are visible ASCII without a colon, and values have no line \
                 breaks and no spaces around them"
            ));
        }
        writing.add(name, value);
    }
    match writing.bytes + payload.len() {
        bytes if bytes > bytes_max => {
            Err(format!("with its headers it has {bytes} bytes, and {bytes_max} is the most"))
        }
        _ => Ok((writing.headers, payload)),
    }
}

/// The message of any headers and body. Of headers of one name the last counts; the server's own are no metadata, and a key that
/// is no key is an entry like any other. So nothing is ever undecodable.
pub(crate) fn read(headers: Option<&HeaderMap>, payload: Bytes) -> Message {
    let Some(headers) = headers else { return Message::with_id("", payload) };
    let last = |name| headers.get_last(name).map(|value| value.as_str());
    let id: MessageId = last(MESSAGE_UUID).or_else(|| last("Nats-Msg-Id")).unwrap_or_default().into();
    let mut message = Message::with_id(id, payload);
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let Some(value) = values.last().map(|value| value.as_str()) else { continue };
        if name == MESSAGE_UUID || is_reserved(name) {
            continue;
        }
        match key_of_entry(name, value) {
            Some(Ok(key)) => message.set_key(Some(key)),
            _ => drop(message.metadata_mut().insert(name, value)),
        }
    }
    message
}

/// `NATS/1.0`, and the empty line at the end.
const FRAME: usize = b"NATS/1.0\r\n\r\n".len();

struct Writing {
    headers: HeaderMap,
    bytes: usize,
}

impl Writing {
    fn add(&mut self, name: &str, value: &str) {
        self.bytes += name.len() + b": ".len() + value.len() + b"\r\n".len();
        self.headers.insert(name, value);
    }
}

impl Default for Writing {
    fn default() -> Self {
        Self { headers: HeaderMap::new(), bytes: FRAME }
    }
}

fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// Clients trim values, this one spaces of any script.
fn is_value(value: &str) -> bool {
    !value.contains(['\r', '\n']) && value.trim().len() == value.len()
}

#[cfg(test)]
mod tests {
    use watermill_core::metadata_keys::KEY;

    use super::*;

    fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).map(|value| value.as_str())
    }

    fn there_and_back(message: &Message) -> Message {
        let (headers, payload) = write(message.clone(), true, 1_000).unwrap();
        read(Some(&headers), payload)
    }

    #[test]
    fn what_is_written_is_what_go_writes() {
        let message =
            Message::with_id("1", &b"\0\xff"[..]).with_metadata("a", "b").with_metadata("Grose", "ü");
        let wire = b"NATS/1.0\r\n_watermill_message_uuid: 1\r\na: b\r\nGrose: \xc3\xbc\r\n\r\n\0\xff";
        let (headers, payload) = write(message.clone(), false, wire.len()).unwrap();
        assert!(write(message.clone(), false, wire.len() - 1).unwrap_err().contains("is the most"));
        assert_eq!(header(&headers, "_watermill_message_uuid"), Some("1"));
        assert_eq!((header(&headers, "a"), header(&headers, "Grose")), (Some("b"), Some("ü")));
        assert_eq!((headers.len(), &payload[..]), (3, &b"\0\xff"[..]));
        assert_eq!(read(Some(&headers), payload), message);
    }

    #[test]
    fn the_server_is_told_the_id_by_option_and_metadata_never_have_it() {
        let message = Message::with_id("1", "x");
        assert_eq!(header(&write(message.clone(), true, 99).unwrap().0, "Nats-Msg-Id"), Some("1"));
        assert_eq!(header(&write(message.clone(), false, 99).unwrap().0, "Nats-Msg-Id"), None);
        assert_eq!(header(&write(Message::with_id("", "x"), true, 99).unwrap().0, "Nats-Msg-Id"), None);
        assert_eq!(there_and_back(&message), message);
    }

    #[test]
    fn a_key_of_any_bytes_travels_in_a_header() {
        for key in [&b""[..], b"k", b" k", b"a\r\nb", b"\xff\0"] {
            let message = Message::with_id("1", "x").with_key(key);
            assert_eq!(there_and_back(&message), message);
        }
    }

    #[test]
    fn what_no_header_holds_is_refused_with_the_reason() {
        let of = |name: &str, value: &str| write(Message::new("").with_metadata(name, value), false, 999);
        for (name, value) in
            [("", "x"), ("a b", "x"), ("ü", "x"), ("a:", "x"), ("a", " x"), ("a", "x\u{a0}"), ("a", "x\ny")]
        {
            let refused = of(name, value).unwrap_err();
            assert!(refused.contains("is no header"), "{refused}");
        }
        for name in ["Nats-Rollup", "nats-expected-stream", MESSAGE_UUID] {
            assert!(of(name, "x").unwrap_err().contains("reserved"), "{name}");
        }
        assert!(of(KEY, "x").unwrap_err().contains("with_key"));
        assert!(write(Message::with_id("1\n", ""), false, 99).unwrap_err().contains("its id"));
    }

    #[test]
    fn whatever_others_write_is_a_message() {
        assert_eq!(read(None, "x".into()), Message::with_id("", "x"));
        let mut headers = HeaderMap::new();
        headers.append("a", "1");
        headers.append("a", "2");
        headers.insert("Nats-Msg-Id", "7");
        headers.insert("Nats-Expected-Stream", "s");
        headers.insert("_watermill_key_base64", "!");
        let expected =
            Message::with_id("7", "x").with_metadata("a", "2").with_metadata("_watermill_key_base64", "!");
        assert_eq!(read(Some(&headers), "x".into()), expected);
    }
}
