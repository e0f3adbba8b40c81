//! [`Limits`]: which messages a backend can hold.

use watermill_core::Message;

/// Which messages a backend can hold: every one, unless it says otherwise. The suite sends odd messages;
/// those that are within the limits must arrive unchanged, and a call with one beyond them must fail with
/// [`PublishErrorKind::Message`](watermill_core::error::PublishErrorKind::Message) before anything is sent.
///
/// ```
/// use watermill_core::Message;
/// use watermill_testkit::Limits;
///
/// let limits = Limits::default()
///     .payload_max(1024 * 1024)
///     .ids(|id| !id.is_empty())
///     .metadata(|name, value| name.is_ascii() && !value.contains(['\r', '\n']));
/// assert!(limits.hold(&Message::with_id("1", "hello").with_metadata("trace", "größe")));
/// assert!(!limits.hold(&Message::with_id("1", "hello").with_metadata("größe", "1")));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Limits {
    payload_max: Option<usize>,
    payloads: fn(&[u8]) -> bool,
    ids: fn(&str) -> bool,
    keys: fn(&[u8]) -> bool,
    metadata: fn(&str, &str) -> bool,
    metadata_max: Option<usize>,
}

impl Limits {
    /// The largest payload, in bytes, that fits beside any usual metadata. One twice as large must be
    /// refused; what is between is left open, for where a backend limits the whole record.
    pub fn payload_max(mut self, bytes: usize) -> Self {
        self.payload_max = Some(bytes);
        self
    }

    /// Says which payloads it can hold, for a column of JSON for instance.
    pub fn payloads(mut self, can_hold: fn(&[u8]) -> bool) -> Self {
        self.payloads = can_hold;
        self
    }

    /// Payloads that are JSON, and no others.
    pub fn json_payloads(self) -> Self {
        self.payloads(|payload| serde_json::from_slice::<serde_json::Value>(payload).is_ok())
    }

    /// Says which message ids it can hold.
    pub fn ids(mut self, can_hold: fn(&str) -> bool) -> Self {
        self.ids = can_hold;
        self
    }

    /// Says which keys it can hold.
    pub fn keys(mut self, can_hold: fn(&[u8]) -> bool) -> Self {
        self.keys = can_hold;
        self
    }

    /// Says which metadata it can hold, by the name and the value of an entry.
    pub fn metadata(mut self, can_hold: fn(&str, &str) -> bool) -> Self {
        self.metadata = can_hold;
        self
    }

    /// How many entries the metadata of a message may have.
    pub fn metadata_max(mut self, entries: usize) -> Self {
        self.metadata_max = Some(entries);
        self
    }

    /// Whether a message is within the limits.
    pub fn hold(&self, message: &Message) -> bool {
        let metadata = message.metadata();
        self.payload_max.is_none_or(|max| message.payload().len() <= max)
            && (self.payloads)(message.payload())
            && (self.ids)(message.id())
            && message.key().is_none_or(|key| (self.keys)(key))
            && self.metadata_max.is_none_or(|max| metadata.len() <= max)
            && metadata.iter().all(|(name, value)| (self.metadata)(name, value))
    }

    /// A size of payload that fits, at most `wanted`.
    pub(crate) fn payload_size(&self, wanted: usize) -> usize {
        self.payload_max.map_or(wanted, |max| max.min(wanted))
    }

    /// A message that is refused and JSON like any other, if there is any.
    pub(crate) fn beyond(&self) -> Option<Message> {
        let large = self.payload_max.map(|max| Message::new("7".repeat(2 * max)));
        let binary = Message::new(vec![0xff; 3]);
        large.or_else(|| (!(self.payloads)(binary.payload())).then_some(binary))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_max: None,
            payloads: |_| true,
            ids: |_| true,
            keys: |_| true,
            metadata: |_, _| true,
            metadata_max: None,
        }
    }
}
