//! The envelope, against bytes that Go writes and against any bytes at all.

use proptest::{collection, prelude::*};
use watermill_core::{Message, Metadata};
use watermill_forwarder::Envelope;

/// What Go's `encoding/json` writes for a message to `dest` with id `u1` and this payload and metadata.
fn assert_golden(json: &str, payload: &[u8], metadata: &[(&str, &str)]) {
    let mut message = Message::with_id("u1", payload.to_vec());
    *message.metadata_mut() = metadata.iter().copied().collect();
    let envelope = Envelope::new("dest", message);
    assert_eq!(String::from_utf8(envelope.to_json()).unwrap(), json);
    assert_eq!(Envelope::from_json(json.as_bytes()).unwrap(), envelope);
}

#[test]
fn an_envelope_is_byte_for_byte_what_go_writes() {
    assert_golden(
        r#"{"destination_topic":"dest","uuid":"u1","payload":"AP8B","metadata":{"partition_key":"k"}}"#,
        &[0x00, 0xff, 0x01],
        &[("partition_key", "k")],
    );
    assert_golden(r#"{"destination_topic":"dest","uuid":"u1","payload":"","metadata":{}}"#, b"", &[]);
    assert_golden(
        r#"{"destination_topic":"dest","uuid":"u1","payload":"Pz8/Pj4+","metadata":{"A":"","a":"<b>\u0026","z\u2028":"ü\t\"\\"}}"#
            .replace("<b>", r"\u003cb\u003e")
            .as_str(),
        b"???>>>",
        &[("a", "<b>&"), ("z\u{2028}", "ü\t\"\\"), ("A", "")],
    );
}

#[test]
fn the_context_of_a_trace_is_inside_of_the_envelope_as_a_go_publisher_writes_it() {
    let (parent, state) = ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1,b@c=2");
    assert_golden(
        &format!(
            r#"{{"destination_topic":"dest","uuid":"u1","payload":"","metadata":{{"traceparent":"{parent}","tracestate":"{state}"}}}}"#
        ),
        b"",
        &[("traceparent", parent), ("tracestate", state)],
    );
    let message = Message::with_id("u1", "").with_metadata("traceparent", parent);
    assert!(Envelope::new("dest", message).wrap().metadata().is_empty(), "the outer message is as Go's");
}

#[test]
fn what_a_go_writer_may_emit_instead_of_empty_values_is_read() {
    let json = br#"{"destination_topic":"dest","uuid":"","payload":null,"metadata":null}"#;
    let (destination, message) = Envelope::from_json(json).unwrap().into_parts();
    assert_eq!(destination, "dest");
    assert_eq!(message, Message::with_id("", ""));
}

/// `messages.json` has messages, `envelopes.jsonl` what `forwarder.Publisher` of Watermill v1.5.1, built with
/// Go 1.26.8, has made of each of them.
#[test]
fn the_envelopes_that_go_has_written_are_ours() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let messages: Vec<serde_json::Value> = serde_json::from_str(include_str!("go/messages.json")).unwrap();
    let envelopes: Vec<&str> = include_str!("go/envelopes.jsonl").lines().collect();
    assert_eq!(messages.len(), envelopes.len());
    for (message, json) in messages.iter().zip(envelopes) {
        let payload = BASE64_STANDARD.decode(message["payload"].as_str().unwrap_or_default()).unwrap();
        let mut expected = Message::with_id(message["uuid"].as_str().unwrap(), payload);
        *expected.metadata_mut() = serde_json::from_value(message["metadata"].clone()).unwrap();
        let envelope = Envelope::new(message["topic"].as_str().unwrap(), expected);

        assert_eq!(Envelope::from_json(json.as_bytes()).unwrap(), envelope, "{json}");
        // Where Go tells nothing at all from what is empty, we write what is empty.
        let empty = [("payload", "\"\""), ("metadata", "{}")];
        let written = empty.iter().filter(|(name, _)| message[name].is_null()).fold(
            json.to_owned(),
            |json, (name, empty)| {
                assert!(json.contains(&format!("\"{name}\":null")), "{json}");
                json.replace(&format!("\"{name}\":null"), &format!("\"{name}\":{empty}"))
            },
        );
        assert_eq!(String::from_utf8(envelope.to_json()).unwrap(), written);
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let metadata = collection::btree_map(any::<String>(), any::<String>(), 0..4);
    let key = proptest::option::of(collection::vec(any::<u8>(), 0..8));
    (any::<String>(), collection::vec(any::<u8>(), 0..64), metadata, key).prop_map(
        |(id, payload, metadata, key)| {
            let mut message = Message::with_id(id, payload);
            *message.metadata_mut() = metadata.into_iter().collect::<Metadata>();
            message.set_key(key.map(Into::into));
            message
        },
    )
}

proptest! {
    #[test]
    fn any_message_comes_out_of_its_envelope_as_it_went_in(message in messages(), topic in ".+") {
        let envelope = Envelope::new(topic, message);
        prop_assert_eq!(Envelope::unwrap(&envelope.wrap()).unwrap(), envelope);
    }

    #[test]
    fn the_json_means_the_same_to_any_other_reader(message in messages(), topic in ".+") {
        let json = Envelope::new(topic.clone(), message.clone()).to_json();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let names: Vec<_> = json_names(&json);
        prop_assert_eq!(names, ["destination_topic", "uuid", "payload", "metadata"]);
        prop_assert_eq!(&value["destination_topic"], &topic);
        prop_assert_eq!(&value["uuid"], message.id().as_str());
        let metadata: Metadata = serde_json::from_value(value["metadata"].clone()).unwrap();
        prop_assert_eq!(&metadata, message.metadata());
    }

    #[test]
    fn what_another_writer_wrote_is_read(message in messages(), topic in ".+") {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let json = serde_json::json!({
            "later_field": {"deep": [1, 2.5, null]},
            "metadata": message.metadata(),
            "payload": BASE64_STANDARD.encode(message.payload()),
            "uuid": message.id().as_str(),
            "destination_topic": topic,
        });
        let mut without_key = message;
        without_key.set_key(None);
        let read = Envelope::from_json(&serde_json::to_vec_pretty(&json).unwrap()).unwrap();
        prop_assert_eq!(read, Envelope::new(topic, without_key));
    }

    #[test]
    fn foreign_bytes_are_an_error_and_never_a_panic(bytes in collection::vec(any::<u8>(), 0..256)) {
        let _ = Envelope::from_json(&bytes);
    }

    #[test]
    fn an_envelope_cut_short_or_with_a_changed_byte_is_never_a_panic(
        message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut json = Envelope::new("dest", message).to_json();
        let at = at.index(json.len());
        prop_assert!(Envelope::from_json(&json[..at]).is_err());
        json[at] = byte;
        let _ = Envelope::from_json(&json);
    }
}

/// The names of the outermost fields in the order they were written.
fn json_names(json: &[u8]) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Names {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Names;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                    let mut names = Vec::new();
                    while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        names.push(name);
                    }
                    Ok(Names(names))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_slice::<Names>(json).unwrap().0
}
