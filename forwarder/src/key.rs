//! [`KeyFrom`]: the key of messages whose envelopes have none.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde_json::Value;
use watermill_core::Message;

/// Where the key of a message comes from whose envelope has none, as those that Go Watermill writes.
///
/// A message that has a key keeps it. One of which none can be derived is forwarded without.
///
/// ```
/// use watermill_core::Message;
/// use watermill_forwarder::{ForwarderConfig, KeyFrom};
///
/// let by_customer = KeyFrom::json_pointer("/customer/id");
/// let by_header = KeyFrom::metadata("partition_key");
/// let by_hand = KeyFrom::function(|message: &Message| message.payload().get(..4).map(<[u8]>::to_vec));
/// for key in [by_customer, by_header, by_hand] {
///     assert!(ForwarderConfig::default().key_from(key).validate().is_ok());
/// }
/// ```
#[derive(Clone)]
pub struct KeyFrom(Kind);

#[derive(Clone)]
enum Kind {
    Metadata(String),
    JsonPointer(String),
    Function(Arc<Derive>),
}

type Derive = dyn Fn(&Message) -> Option<Bytes> + Send + Sync;

impl KeyFrom {
    /// The value of a metadata entry.
    pub fn metadata(name: impl Into<String>) -> Self {
        Self(Kind::Metadata(name.into()))
    }

    /// What a JSON pointer (RFC 6901) finds in the payload: the text of a string, or a number or a boolean as
    /// JSON writes it. Anything else is no key.
    pub fn json_pointer(pointer: impl Into<String>) -> Self {
        Self(Kind::JsonPointer(pointer.into()))
    }

    /// What a function says. It is called once for each delivery of a message, and must say the same of it
    /// every time: order is kept by key.
    pub fn function<K: Into<Bytes>>(derive: impl Fn(&Message) -> Option<K> + Send + Sync + 'static) -> Self {
        Self(Kind::Function(Arc::new(move |message| derive(message).map(Into::into))))
    }

    /// Gives a message its key, unless it has one.
    pub(crate) fn apply(&self, message: &mut Message) {
        if message.key().is_none() {
            let key = self.derive(message);
            message.set_key(key);
        }
    }

    fn derive(&self, message: &Message) -> Option<Bytes> {
        match &self.0 {
            Kind::Metadata(name) => {
                message.metadata().get(name).map(|value| Bytes::copy_from_slice(value.as_bytes()))
            }
            Kind::JsonPointer(pointer) => {
                match serde_json::from_slice::<Value>(message.payload()).ok()?.pointer(pointer)? {
                    Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
                    plain @ (Value::Number(_) | Value::Bool(_)) => Some(plain.to_string().into()),
                    Value::Null | Value::Array(_) | Value::Object(_) => None,
                }
            }
            Kind::Function(derive) => derive(message),
        }
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match &self.0 {
            Kind::Metadata(name) if name.is_empty() => {
                Some("key_from: the name of the metadata entry is empty")
            }
            Kind::JsonPointer(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
                Some("key_from: a JSON pointer begins with a slash, or is empty for the whole payload")
            }
            _ => None,
        }
    }
}

/// Two functions are equal when one is a clone of the other.
impl PartialEq for KeyFrom {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Metadata(one), Kind::Metadata(other)) => one == other,
            (Kind::JsonPointer(one), Kind::JsonPointer(other)) => one == other,
            (Kind::Function(one), Kind::Function(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for KeyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Metadata(name) => f.debug_tuple("Metadata").field(name).finish(),
            Kind::JsonPointer(pointer) => f.debug_tuple("JsonPointer").field(pointer).finish(),
            Kind::Function(_) => f.write_str("Function"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(from: &KeyFrom, mut message: Message) -> Option<Bytes> {
        from.apply(&mut message);
        message.key().cloned()
    }

    #[test]
    fn a_key_comes_from_metadata_or_from_what_a_pointer_finds() {
        let message = || Message::new(r#"{"customer":{"id":"c-7","number":7,"vip":true,"tags":[]}}"#);
        let tagged = message().with_metadata("partition_key", "p");
        assert_eq!(key(&KeyFrom::metadata("partition_key"), tagged).unwrap(), "p");
        assert_eq!(key(&KeyFrom::metadata("partition_key"), message()), None);
        for (pointer, found) in [
            ("/customer/id", Some("c-7")),
            ("/customer/number", Some("7")),
            ("/customer/vip", Some("true")),
            ("/customer/tags", None),
            ("/customer", None),
            ("/nobody", None),
        ] {
            let found = found.map(|text: &str| Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(key(&KeyFrom::json_pointer(pointer), message()), found, "{pointer}");
        }
        assert_eq!(key(&KeyFrom::json_pointer("/a"), Message::new("not JSON")), None);
    }

    #[test]
    fn a_key_that_is_there_stays() {
        let message = Message::new("x").with_key("mine").with_metadata("partition_key", "p");
        assert_eq!(key(&KeyFrom::metadata("partition_key"), message).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_work_is_named() {
        assert!(KeyFrom::metadata("").problem().is_some());
        assert!(KeyFrom::json_pointer("customer").problem().is_some());
        assert!(KeyFrom::json_pointer("").problem().is_none());
    }
}
