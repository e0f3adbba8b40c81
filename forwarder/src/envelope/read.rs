//! Reads the JSON of an envelope: everything that Go's forwarder writes, and nearly everything that it reads.

use std::{borrow::Cow, fmt};

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
pub(super) struct Fields<'de> {
    pub(super) destination: Cow<'de, str>,
    pub(super) uuid: Cow<'de, str>,
    pub(super) payload: Vec<u8>,
    /// Whether the payload is `null`.
    pub(super) tombstone: bool,
    pub(super) metadata: Metadata,
}

/// Reads the fields of one JSON object and nothing after it.
pub(super) fn fields(json: &[u8]) -> Result<Fields<'_>, serde_json::Error> {
    serde_json::from_slice(json)
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

/// By hand, because a derived implementation refuses a field that is there twice.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with destination_topic, uuid, payload and metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
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
                Name::Metadata => match map.next_value::<Option<Entries<'de>>>()? {
                    Some(Entries(entries)) if fields.metadata.is_empty() => {
                        fields.metadata = Metadata::packed(entries);
                    }
                    // Into what is there already, as Go does with a map.
                    Some(Entries(entries)) => {
                        for (name, value) in entries {
                            fields.metadata.insert(name, value);
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
fn replace<'de, A: MapAccess<'de>>(text: &mut Cow<'de, str>, map: &mut A) -> Result<(), A::Error> {
    if let Some(Text(value)) = map.next_value()? {
        *text = value;
    }
    Ok(())
}

/// A text, which stays where it is unless something in it is escaped.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowed)
    }
}

/// The entries of an object of texts, in the order in which they are written.
struct Entries<'de>(Vec<(Cow<'de, str>, Cow<'de, str>)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, Option<Text<'de>>>()? {
                    // Go reads a `null` among the values as the empty text.
                    entries.push((name, value.map(|Text(value)| value).unwrap_or_default()));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
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
                // Line breaks are looked for only where there is something that is not base64.
                let decoded =
                    LENIENT_BASE64.decode(text).or_else(|error| match text.contains(['\r', '\n']) {
                        true => LENIENT_BASE64.decode(text.replace(['\r', '\n'], "")),
                        false => Err(error),
                    });
                decoded.map(Base64).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Fields<'_> {
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
        assert_eq!((&*fields.uuid, fields.payload.len()), ("", 0));
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
    fn text_with_escapes_is_read_like_any_other() {
        let fields = read(
            r#"{"destination_topic":"\u0064","uuid":"\"","metadata":{"b\n":"2","\u0061":"\u00fc","c":"1"}}"#,
        );
        assert_eq!((&*fields.destination, &*fields.uuid), ("d", "\""));
        assert_eq!(fields.metadata.iter().collect::<Vec<_>>(), [("a", "ü"), ("b\n", "2"), ("c", "1")]);
    }

    #[test]
    fn a_null_among_metadata_takes_the_value_away_that_was_before_it() {
        assert_eq!(read(r#"{"metadata":{"k":"1","k":null}}"#).metadata.get("k"), Some(""));
        assert_eq!(read(r#"{"metadata":{"k":"1"},"metadata":{"k":null}}"#).metadata.get("k"), Some(""));
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
