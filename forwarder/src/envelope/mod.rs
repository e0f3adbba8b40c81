//! [`Envelope`]: a message together with the topic it is meant for, as one JSON object.

mod read;
mod write;

use std::{error::Error, fmt};

use watermill_core::{Message, MessageId};

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
/// The format has no place for a [key](Message::key). The outer message has it as its own: so the
/// outbox keeps the order of each key, and every backend carries it, beside the envelope, where a Go
/// reader ignores it.
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
    /// It is no envelope, as is expected, and [`DestinationFrom`](crate::DestinationFrom) has found none.
    NoDestination,
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
        envelope.message.set_key(outer.key().cloned());
        Ok(envelope)
    }

    /// The JSON, without the key.
    pub fn to_json(&self) -> Vec<u8> {
        write::json(&self.destination, &self.message)
    }

    /// Reads the JSON. Fields in any order, unknown ones, and `null` for the payload and the metadata
    /// are accepted. Of a field that is there twice the last one counts, except that metadata adds up and
    /// that `null` does not take a text away, as in Go. A payload that is `null` makes the message a
    /// [tombstone](Message::is_tombstone). Text that is not Unicode is an error, where Go
    /// would change it: no Go writer writes any.
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
        let mut message = Message::with_id(MessageId::from(&*fields.uuid), fields.payload);
        *message.metadata_mut() = fields.metadata;
        if fields.tombstone {
            message = message.without_value();
        }
        Ok(Self { destination: fields.destination.into_owned(), message })
    }
}

/// The outer message for `message`, to be published to the forwarder topic.
pub(crate) fn wrap(destination: &str, message: &Message) -> Message {
    let mut outer = Message::with_id(MessageId::new(), write::json(destination, message));
    outer.set_key(message.key().cloned());
    outer
}

impl EnvelopeError {
    pub(crate) fn without_destination() -> Self {
        Self { kind: EnvelopeErrorKind::NoDestination, source: None }
    }

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
            EnvelopeErrorKind::NoDestination => {
                "find the destination: the message has not what it is derived from"
            }
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
    fn the_key_is_beside_the_envelope_and_nothing_else_is() {
        for key in ["customer-7".as_bytes(), &[0xff, 0x00], b""] {
            let envelope = Envelope::new("d", Message::with_id("1", "x").with_key(key.to_vec()));
            let outer = envelope.wrap();
            assert_eq!(outer.key().unwrap(), key);
            assert!(outer.metadata().is_empty());
            assert_eq!(Envelope::unwrap(&outer).unwrap(), envelope);
        }
        let outer = Envelope::new("d", Message::with_id("1", "x")).wrap();
        assert_eq!(outer.key(), None);
    }

    #[test]
    fn the_outer_message_has_an_id_of_its_own() {
        let envelope = Envelope::new("d", Message::with_id("1", "x"));
        let outer = envelope.wrap();
        assert_eq!(outer.id().len(), 36);
        assert_ne!(outer.id(), envelope.wrap().id());
        assert_eq!(Envelope::unwrap(&outer).unwrap().message().id(), "1");
    }

    #[test]
    fn a_tombstone_has_no_payload_and_is_one_again_when_it_is_read() {
        let envelope = Envelope::new("d", Message::with_id("u", "x").without_value());
        let json = envelope.to_json();
        assert_eq!(json, br#"{"destination_topic":"d","uuid":"u","payload":null,"metadata":{}}"#);
        assert!(Envelope::from_json(&json).unwrap().message().is_tombstone());
        let empty = br#"{"destination_topic":"d","uuid":"u","payload":"","metadata":{}}"#;
        assert!(!Envelope::from_json(empty).unwrap().message().is_tombstone());
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
