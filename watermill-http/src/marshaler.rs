//! [`Message`] to and from headers and a body, without I/O: as Go Watermill's library has them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use watermill_core::{
    Message, MessageId, Metadata,
    backend::{key_entry, refuse_key_entries, take_key},
    error::BoxError,
};

use crate::{HttpPublisherConfig, cloud_events, signature};

const UUID: HeaderName = HeaderName::from_static("message-uuid");
const METADATA: HeaderName = HeaderName::from_static("message-metadata");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A message as it is sent, but for its signature, which has the time.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: MessageId,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The headers and the body of a message, or why there are none.
pub(crate) fn write(topic: &str, message: Message, config: &HttpPublisherConfig) -> Result<Record, String> {
    let (id, key, mut metadata, body) = message.into_parts();
    refuse_key_entries(&metadata)?;
    let mut headers: HeaderMap = config.headers.iter().cloned().collect();
    if !config.secrets.is_empty() {
        signature::check_id(id.as_str())?;
    }
    if let Some(source) = &config.cloud_events_source {
        cloud_events::write(&mut headers, source, topic, id.as_str(), key.as_deref(), &metadata)?;
    }
    if let Some(key) = &key {
        let (name, value) = key_entry(key);
        metadata.insert(name, value);
    }
    let id_value = header_of(id.as_str())?;
    if !id.as_str().is_empty() {
        headers.insert(IDEMPOTENCY_KEY, id_value.clone());
    }
    headers.insert(UUID, id_value);
    let packed = ascii(&serde_json::to_string(&metadata).map_err(|error| error.to_string())?);
    if packed.len() > config.metadata_bytes_max {
        let (bytes, max) = (packed.len(), config.metadata_bytes_max);
        return Err(format!("the metadata have {bytes} bytes, more than metadata_bytes_max, {max}"));
    }
    headers.insert(METADATA, HeaderValue::try_from(packed).map_err(|error| error.to_string())?);
    Ok(Record { id, headers, body })
}

/// The message of a request. Of one whose signature was verified, the id is the one that was signed.
pub(crate) fn read(headers: &HeaderMap, body: Bytes, is_verified: bool) -> Result<Message, BoxError> {
    let signed = text(headers, &HeaderName::from_static(signature::ID))?;
    let uuid = text(headers, &UUID)?;
    if is_verified && uuid.is_some_and(|uuid| Some(uuid) != signed) {
        return Err("its id is not the one that was signed".into());
    }
    let event = cloud_events::read(headers)?;
    let id = match &event {
        _ if is_verified => signed,
        Some(event) => uuid.or(Some(&*event.id)),
        None => uuid.or(signed).or(text(headers, &IDEMPOTENCY_KEY)?),
    };
    let mut message = Message::with_id(id.unwrap_or_default(), body);
    let packed = headers.get(METADATA).map(HeaderValue::as_bytes).filter(|packed| !packed.is_empty());
    if let Some(packed) = packed {
        // Go may write `null` for none.
        let mut metadata: Metadata = serde_json::from_slice::<Option<_>>(packed)?.unwrap_or_default();
        message.set_key(take_key(&mut metadata)?);
        *message.metadata_mut() = metadata;
    } else if let Some(event) = event {
        message.set_key(event.partition_key.map(Bytes::from));
        *message.metadata_mut() = event.metadata;
    }
    Ok(message)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, BoxError> {
    let value = headers.get(name).map(|value| str::from_utf8(value.as_bytes()));
    value.transpose().map_err(|_| format!("its header {name} is not UTF-8").into())
}

/// An id as a header, if it comes out as it went in.
fn header_of(id: &str) -> Result<HeaderValue, String> {
    let is_kept = id.trim_matches([' ', '\t']) == id;
    let value = HeaderValue::from_bytes(id.as_bytes()).ok().filter(|_| is_kept);
    value.ok_or_else(|| {
        format!("the id {id:?} cannot be a header: a space is at an end of it, or a control character in it")
    })
}

/// JSON in printable ASCII: whatever else is in a header, servers on the way may change or refuse.
fn ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use watermill_core::metadata_keys::KEY;

    use super::*;

    fn config() -> HttpPublisherConfig {
        HttpPublisherConfig::default()
    }

    fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn what_is_written_is_what_go_writes() {
        let message = Message::with_id("1", &b"\0\xff"[..]).with_metadata("a", "b");
        let record = write("t", message.clone(), &config()).unwrap();
        let go = [("message-uuid", "1"), ("message-metadata", r#"{"a":"b"}"#)];
        assert_eq!(record.headers, headers(&[go[0], go[1], ("idempotency-key", "1")]));
        assert_eq!(read(&headers(&go), record.body, false).unwrap(), message);
        let bare = write("t", Message::default(), &config()).unwrap();
        assert_eq!(bare.headers, headers(&[("message-uuid", ""), ("message-metadata", "{}")]));
    }

    #[test]
    fn what_others_write_is_read() {
        let read = |entries: &[_]| read(&headers(entries), Bytes::from("x"), false).unwrap();
        for none in [&[][..], &[("message-metadata", "")], &[("message-metadata", "null")]] {
            assert_eq!(read(none), Message::with_id("", "x"));
        }
        for id in ["message-uuid", "webhook-id", "idempotency-key"] {
            assert_eq!(read(&[(id, "7")]), Message::with_id("7", "x"));
        }
        let raw = read(&[("message-uuid", "ü"), ("message-metadata", r#"{"b":"ü","a":"<"}"#)]);
        assert_eq!(raw, Message::with_id("ü", "x").with_metadata("b", "ü").with_metadata("a", "<"));
    }

    #[test]
    fn any_text_and_any_key_come_back_and_the_metadata_are_ascii_on_the_way() {
        for key in [None, Some(&b""[..]), Some(b"k"), Some(b"\xff\0")] {
            let mut message =
                Message::with_id("größe", "x").with_metadata("größe 🦀\u{7f}", "\r\n\t\"\\\0 ü");
            message.set_key(key.map(Bytes::copy_from_slice));
            let record = write("t", message.clone(), &config()).unwrap();
            assert!(record.headers[METADATA].to_str().is_ok(), "{record:?}");
            assert_eq!(read(&record.headers, record.body, false).unwrap(), message);
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_with_the_reason() {
        let refused = |message, config: &HttpPublisherConfig| write("t", message, config).unwrap_err();
        for id in [" 1", "1\t", "a\nb", "\0"] {
            assert!(refused(Message::with_id(id, ""), &config()).contains("cannot be a header"), "{id:?}");
        }
        let large = refused(Message::new("").with_metadata("a", "12"), &config().metadata_bytes_max(9));
        assert!(large.contains("have 10 bytes"), "{large}");
        let reserved = refused(Message::new("").with_metadata(KEY, "k"), &config());
        assert!(reserved.contains("with_key"), "{reserved}");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signed = refused(Message::with_id("1.2", ""), &config().sign_with([secret]));
        assert!(signed.contains("cannot be signed"), "{signed}");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for metadata in ["{", "[]", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"_watermill_key_base64":"!"}"#] {
            let headers = [("message-metadata", metadata)]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap()));
            assert!(read(&headers.into_iter().collect(), Bytes::new(), false).is_err(), "{metadata}");
        }
        let id = HeaderValue::from_bytes(b"\xff").unwrap();
        assert!(read(&[(UUID, id)].into_iter().collect(), Bytes::new(), false).is_err());
    }

    #[test]
    fn of_a_verified_request_the_id_is_the_one_that_was_signed() {
        let signed = headers(&[("webhook-id", "1"), ("idempotency-key", "2")]);
        assert_eq!(read(&signed, Bytes::new(), true).unwrap().id(), "1");
        let other = headers(&[("webhook-id", "1"), ("message-uuid", "2")]);
        assert!(read(&other, Bytes::new(), true).is_err());
        let event = headers(&[
            ("webhook-id", "1"),
            ("ce-specversion", "1.0"),
            ("ce-id", "2"),
            ("ce-type", "t"),
            ("ce-source", "s"),
        ]);
        assert_eq!(read(&event, Bytes::new(), true).unwrap().id(), "1");
    }
}
