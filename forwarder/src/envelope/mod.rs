//! [`Envelope`]: a message together with the topic it is meant for, as one JSON object.

mod read;
mod write;

use std::{error::Error, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use watermill_core::{Message, MessageId, Metadata, metadata_keys};

/// A message and the topic it is meant for: what travels through the forwarder topic.
///
/// On the wire it is the payload of an outer message, byte for byte what Go Watermill writes, so that
/// either side may be written in either language:
///
/// ```
/// use watermill_core::Message;
/// use watermill_forwarder::Envelope;
///
/// let message = Message::with_id("u1", vec![0x00, 0xff]).with_metadata("partition_key", "k");
/// let envelope = Envelope::new("dest", message);
/// assert_eq!(
///     envelope.to_json(),
///     br#"{"destination_topic":"dest","uuid":"u1","payload":"AP8=","metadata":{"partition_key":"k"}}"#,
/// );
/// # assert_eq!(Envelope::from_json(&envelope.to_json()).unwrap(), envelope);
/// ```
///
/// The format has no place for a [key](Message::key). The outer message carries it, as its own key
/// (so that the outbox keeps the order of each key) and in its metadata; a Go reader ignores both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    destination: String,
    message: Message,
}

/// What was received is not an envelope.
#[derive(Debug)]
pub struct EnvelopeError {
    kind: EnvelopeErrorKind,
    source: Option<serde_json::Error>,
}

/// What keeps a payload from being read as an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeErrorKind {
    /// It is not JSON, or not an object with fields of the right types.
    Json,
    /// It does not say which topic the message is for.
    Destination,
    /// The key in the outer message's metadata is not base64.
    Key,
}

impl Envelope {
    /// Addresses a message. An empty destination can be written, but nobody will be able to read it:
    /// [`ForwarderPublisher`](crate::ForwarderPublisher) refuses it.
    pub fn new(destination: impl Into<String>, message: Message) -> Self {
        Self { destination: destination.into(), message }
    }

    /// The topic the message is meant for.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The message inside.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Separates the topic from the message.
    pub fn into_parts(self) -> (String, Message) {
        (self.destination, self.message)
    }

    /// The outer message, with an id of its own.
    pub fn wrap(&self) -> Message {
        wrap(&self.destination, &self.message)
    }

    /// Reads an outer message.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when its payload is not an envelope. Reading it again cannot help.
    pub fn unwrap(outer: &Message) -> Result<Self, EnvelopeError> {
        let mut envelope = Self::from_json(outer.payload())?;
        envelope.message.set_key(inner_key(outer)?);
        Ok(envelope)
    }

    /// The JSON, without the key.
    pub fn to_json(&self) -> Vec<u8> {
        write::json(&self.destination, &self.message)
    }

    /// Reads the JSON. Fields in any order, unknown ones, and `null` for the payload and the metadata
    /// are accepted; of a field that is there twice the last one counts, as in Go.
    ///
    /// # Errors
    ///
    /// As [`unwrap`](Self::unwrap).
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        let fields = read::fields(json)
            .map_err(|source| EnvelopeError { kind: EnvelopeErrorKind::Json, source: Some(source) })?;
        if fields.destination.is_empty() {
            return Err(EnvelopeError { kind: EnvelopeErrorKind::Destination, source: None });
        }
        let mut message = Message::with_id(MessageId::from(fields.uuid), fields.payload);
        *message.metadata_mut() = fields.metadata;
        Ok(Self { destination: fields.destination, message })
    }
}

/// The outer message for `message`, to be published to the forwarder topic.
pub(crate) fn wrap(destination: &str, message: &Message) -> Message {
    let mut outer = Message::with_id(MessageId::new(), write::json(destination, message));
    if let Some(key) = message.key() {
        outer.set_key(Some(key.clone()));
        note_key(outer.metadata_mut(), key);
    }
    outer
}

/// The key goes into the metadata too: a backend may use the outer message's own key for a purpose of
/// its own, a partition chosen by configuration for instance.
fn note_key(metadata: &mut Metadata, key: &Bytes) {
    match std::str::from_utf8(key) {
        Ok(text) => metadata.insert(metadata_keys::KEY, text),
        Err(_) => metadata.insert(metadata_keys::KEY_BASE64, BASE64_STANDARD.encode(key)),
    };
}

fn inner_key(outer: &Message) -> Result<Option<Bytes>, EnvelopeError> {
    if let Some(text) = outer.metadata().get(metadata_keys::KEY) {
        return Ok(Some(Bytes::copy_from_slice(text.as_bytes())));
    }
    match outer.metadata().get(metadata_keys::KEY_BASE64) {
        Some(text) => match BASE64_STANDARD.decode(text) {
            Ok(key) => Ok(Some(key.into())),
            Err(_) => Err(EnvelopeError { kind: EnvelopeErrorKind::Key, source: None }),
        },
        None => Ok(outer.key().cloned()),
    }
}

impl EnvelopeError {
    /// What is wrong with it.
    pub fn kind(&self) -> EnvelopeErrorKind {
        self.kind
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            EnvelopeErrorKind::Json => "unwrap the envelope: the payload is not the JSON of one",
            EnvelopeErrorKind::Destination => "unwrap the envelope: it has no destination_topic",
            EnvelopeErrorKind::Key => "unwrap the envelope: the key beside it is not base64",
        })
    }
}

impl Error for EnvelopeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_key_travels_beside_the_envelope_as_text_and_another_one_as_base64() {
        let text = Envelope::new("d", Message::with_id("1", "x").with_key("customer-7"));
        let outer = text.wrap();
        assert_eq!(outer.key().unwrap(), "customer-7");
        assert_eq!(outer.metadata().get("_watermill_key"), Some("customer-7"));
        assert_eq!(Envelope::unwrap(&outer).unwrap(), text);

        let binary = Envelope::new("d", Message::with_id("1", "x").with_key(vec![0xff, 0x00]));
        let outer = binary.wrap();
        assert_eq!(outer.metadata().get("_watermill_key_base64"), Some("/wA="));
        assert_eq!(Envelope::unwrap(&outer).unwrap(), binary);
    }

    #[test]
    fn without_a_key_the_outer_message_has_no_metadata() {
        let outer = Envelope::new("d", Message::with_id("1", "x")).wrap();
        assert!(outer.metadata().is_empty());
        assert_eq!(outer.key(), None);
        assert_eq!(outer.id().len(), 36);
        assert_ne!(outer.id(), "1");
    }

    #[test]
    fn the_key_of_the_message_itself_is_taken_where_the_metadata_has_none() {
        let outer = Envelope::new("d", Message::with_id("1", "x")).wrap().with_key("by-the-backend");
        assert_eq!(Envelope::unwrap(&outer).unwrap().message().key().unwrap(), "by-the-backend");
    }

    #[test]
    fn a_key_that_is_not_base64_is_an_error_and_not_another_key() {
        let outer = Envelope::new("d", Message::with_id("1", "x"))
            .wrap()
            .with_metadata(metadata_keys::KEY_BASE64, "*");
        assert_eq!(Envelope::unwrap(&outer).unwrap_err().kind(), EnvelopeErrorKind::Key);
    }

    #[test]
    fn an_envelope_without_a_destination_says_so() {
        for json in [r#"{}"#, r#"{"destination_topic":""}"#, r#"{"destination_topic":null,"uuid":"u"}"#] {
            let error = Envelope::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), EnvelopeErrorKind::Destination, "{json}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_not_an_envelope() {
        for json in ["", "null", "[]", "42", "{", "nonsense", "\u{0}", r#"{"destination_topic":7}"#] {
            let error = Envelope::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), EnvelopeErrorKind::Json, "{json}");
        }
    }
}
