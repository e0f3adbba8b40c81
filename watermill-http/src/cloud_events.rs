//! The attributes of CloudEvents 1.0 in binary mode: a header each.

use http::{HeaderMap, HeaderName, HeaderValue};
use watermill_core::{Metadata, cloud_events, error::BoxError, metadata_keys};

const VERSION: HeaderName = HeaderName::from_static(cloud_events::SPEC_VERSION);

/// What the attributes of an event say.
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) partition_key: Option<String>,
    /// Each attribute but the id by the name of its header, and its type as the `name` too.
    pub(crate) metadata: Metadata,
}

/// Adds the attributes of a message, or says why it can be no event.
pub(crate) fn write(
    headers: &mut HeaderMap,
    source: &str,
    topic: &str,
    id: &str,
    key: Option<&[u8]>,
    metadata: &Metadata,
) -> Result<(), String> {
    if id.is_empty() {
        return Err("a cloud event needs an id".to_owned());
    }
    let name = metadata.get(metadata_keys::NAME).filter(|name| !name.is_empty());
    // A key of other bytes travels in the metadata alone.
    let key = key.and_then(|key| str::from_utf8(key).ok()).filter(|key| !key.is_empty());
    for (name, text) in cloud_events::attributes(id, source, name.unwrap_or(topic), key) {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        headers.insert(name, HeaderValue::try_from(encode(text)).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// What the attributes say, if it is an event.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Event>, BoxError> {
    if !headers.contains_key(VERSION) {
        return Ok(None);
    }
    let mut metadata = Metadata::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-")) {
        metadata.insert(
            name.as_str(),
            decode(value.as_bytes()).map_err(|why| format!("its header {name} {why}"))?,
        );
    }
    let id =
        metadata.remove(cloud_events::ID).filter(|id| !id.is_empty()).ok_or("the cloud event has no id")?;
    let partition_key = metadata.get(cloud_events::PARTITION_KEY).map(str::to_owned);
    let name = metadata.get(cloud_events::TYPE).ok_or("the cloud event has no type")?.to_owned();
    metadata.insert(metadata_keys::NAME, name);
    Ok(Some(Event { id, partition_key, metadata }))
}

/// As the HTTP binding of the standard asks: whatever is not printable ASCII, and the space, the quote and the
/// percent sign, in UTF-8 and percent-encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | ..=b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

fn decode(value: &[u8]) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.split_at_checked(2).filter(|_| *first == b'%');
        let encoded = digits.and_then(|(digits, _)| byte_of(digits));
        match (encoded, digits) {
            (Some(byte), Some((_, behind))) => {
                decoded.push(byte);
                rest = behind;
            }
            _ if *first == b'%' => return Err("has a percent sign that encodes nothing"),
            _ => {
                decoded.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| "is not UTF-8")
}

/// Of two hexadecimal digits, without a sign.
fn byte_of(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_any_text_come_back() {
        let mut headers = HeaderMap::new();
        let metadata = Metadata::from_iter([("name", "order \"placed\" 100% größe 🦀\n")]);
        write(&mut headers, "/shop", "orders", "1", Some(b"customer 7"), &metadata).unwrap();
        assert!(headers.values().all(|value| value.to_str().is_ok()), "{headers:?}");
        let event = read(&headers).unwrap().unwrap();
        assert_eq!((event.id.as_str(), event.partition_key.as_deref()), ("1", Some("customer 7")));
        for name in ["name", "ce-type"] {
            assert_eq!(event.metadata.get(name), metadata.get("name"));
        }
        assert_eq!(event.metadata.get("ce-source"), Some("/shop"));
    }

    #[test]
    fn the_topic_is_the_type_of_what_has_no_name() {
        let mut headers = HeaderMap::new();
        write(&mut headers, "/shop", "orders", "1", None, &Metadata::new()).unwrap();
        assert_eq!(headers[cloud_events::TYPE], "orders");
        assert!(!headers.contains_key(cloud_events::PARTITION_KEY));
    }

    #[test]
    fn what_is_no_event_is_refused_or_left_to_others() {
        assert!(write(&mut HeaderMap::new(), "/shop", "orders", "", None, &Metadata::new()).is_err());
        assert!(read(&HeaderMap::new()).unwrap().is_none());
        for faulty in [
            &[("ce-type", "t")][..],
            &[("ce-id", "1")],
            &[("ce-id", "1"), ("ce-type", "%4")],
            &[("ce-id", "1"), ("ce-type", "%zz")],
            &[("ce-id", "1"), ("ce-type", "%+1")],
            &[("ce-id", "1"), ("ce-type", "%FF")],
        ] {
            let entries = faulty.iter().chain(&[("ce-specversion", "1.0")]);
            let entry = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            assert!(read(&entries.map(entry).collect()).is_err(), "{faulty:?}");
        }
    }
}
