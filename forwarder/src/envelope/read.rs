//! Reads the JSON of an envelope: everything that Go's forwarder writes, and nearly everything that it reads.

use std::{collections::BTreeMap, fmt};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use watermill_core::Metadata;

/// Standard base64; the padding and the bits it leaves over are not held against a writer.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an envelope says; a field that is missing or `null` is empty.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) destination: String,
    pub(super) uuid: String,
    pub(super) payload: Vec<u8>,
    /// Whether the payload is `null`.
    pub(super) tombstone: bool,
    pub(super) metadata: Metadata,
}

/// Reads the fields of one JSON object and nothing after it.
pub(super) fn fields(json: &[u8]) -> Result<Fields, serde_json::Error> {
    serde_json::from_slice(json)
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

/// By hand, because a derived implementation refuses a field that is there twice.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with destination_topic, uuid, payload and metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Destination => replace(&mut fields.destination, &mut map)?,
                Name::Uuid => replace(&mut fields.uuid, &mut map)?,
                Name::Payload => {
                    let payload = map.next_value::<Option<Base64>>()?;
                    fields.tombstone = payload.is_none();
                    fields.payload = payload.map(|payload| payload.0).unwrap_or_default();
                }
                Name::Metadata => match map.next_value::<Option<BTreeMap<String, Option<String>>>>()? {
                    // Into what is there already, as Go does with a map.
                    Some(entries) => {
                        for (name, value) in entries {
                            // Go reads a `null` among the values as the empty text.
                            fields.metadata.insert(name, value.unwrap_or_default());
                        }
                    }
                    None => fields.metadata = Metadata::new(),
                },
                Name::Unknown => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// A `null` leaves a text as it was, as in Go.
fn replace<'de, A: MapAccess<'de>>(text: &mut String, map: &mut A) -> Result<(), A::Error> {
    if let Some(value) = map.next_value()? {
        *text = value;
    }
    Ok(())
}

enum Name {
    Destination,
    Uuid,
    Payload,
    Metadata,
    Unknown,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
                // Go does not mind the case of the names it looks for.
                let is = |expected: &str| name.eq_ignore_ascii_case(expected);
                Ok(match name {
                    _ if is("destination_topic") => Name::Destination,
                    _ if is("uuid") => Name::Uuid,
                    _ if is("payload") => Name::Payload,
                    _ if is("metadata") => Name::Metadata,
                    _ => Name::Unknown,
                })
            }
        }

        deserializer.deserialize_str(Text)
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text, or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Base64, E> {
                Ok(Base64(Vec::new()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Base64, E> {
                let decoded = if text.contains(['\r', '\n']) {
                    LENIENT_BASE64.decode(text.replace(['\r', '\n'], ""))
                } else {
                    LENIENT_BASE64.decode(text)
                };
                decoded.map(Base64).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Fields {
        fields(json.as_bytes()).unwrap()
    }

    #[test]
    fn fields_come_in_any_order_and_unknown_ones_are_ignored() {
        let fields = read(
            r#" {"metadata" : {"b":"2","a":"1"}, "x": [{"uuid": 7}], "payload": "AP8B", "uuid":"u", "destination_topic":"d"} "#,
        );
        assert_eq!(fields.destination, "d");
        assert_eq!(fields.uuid, "u");
        assert_eq!(fields.payload, [0, 0xff, 1]);
        assert_eq!(fields.metadata.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn null_is_empty_wherever_go_may_write_it() {
        // Go's nil metadata unwraps to a map that panics when it is written to; ours is just empty.
        let fields = read(r#"{"destination_topic":"d","uuid":null,"payload":null,"metadata":null}"#);
        assert_eq!((fields.uuid.as_str(), fields.payload.len()), ("", 0));
        assert!(fields.metadata.is_empty());
        assert_eq!(read(r#"{"metadata":{"k":null}}"#).metadata.get("k"), Some(""));
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_one_counts() {
        let fields = read(r#"{"uuid":"1","metadata":{"k":"1","k":"2"},"uuid":"2"}"#);
        assert_eq!(fields.uuid, "2");
        assert_eq!(fields.metadata.get("k"), Some("2"));
    }

    #[test]
    fn what_go_keeps_of_the_first_one_is_kept() {
        // What Go 1.26 makes of each of these.
        assert_eq!(read(r#"{"uuid":"1","uuid":null}"#).uuid, "1");
        assert!(read(r#"{"payload":"eA==","payload":null}"#).payload.is_empty());
        let fields = read(r#"{"metadata":{"a":"1","b":"1"},"metadata":{"b":"2","c":"2"}}"#);
        assert_eq!(fields.metadata.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "2")]);
        assert!(read(r#"{"metadata":{"a":"1"},"metadata":null}"#).metadata.is_empty());
    }

    #[test]
    fn text_that_is_not_unicode_is_refused_rather_than_changed() {
        // Go reads a replacement character in its place. No Go writer writes such text.
        for json in [&br#"{"uuid":"\ud800"}"#[..], br#"{"metadata":{"k":"\udc00x"}}"#, b"{\"uuid\":\"\xff\"}"]
        {
            assert!(fields(json).is_err(), "{}", json.escape_ascii());
        }
    }

    #[test]
    fn line_breaks_and_missing_padding_in_base64_are_forgiven() {
        assert_eq!(read(r#"{"payload":"AP\r\n8B"}"#).payload, [0, 0xff, 1]);
        assert_eq!(read(r#"{"payload":"AA"}"#).payload, [0]);
        assert!(fields(br#"{"payload":"A*"}"#).is_err());
    }
}
