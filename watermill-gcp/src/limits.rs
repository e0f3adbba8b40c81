//! The service's limits for a message, checked before anything is sent. See
//! <https://cloud.google.com/pubsub/quotas#resource_limits>.

use google_cloud_pubsub::model::Message as Native;
use watermill_core::metadata_keys::{KEY, KEY_BASE64, MESSAGE_UUID};

/// 10 MB, for the message and for the request that it must fit into.
pub(crate) const MESSAGE_BYTES_MAX: usize = 10_000_000;
pub(crate) const ATTRIBUTES_MAX: usize = 100;
pub(crate) const ATTRIBUTE_KEY_BYTES_MAX: usize = 256;
pub(crate) const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1_024;
pub(crate) const ORDERING_KEY_BYTES_MAX: usize = 1_024;

/// Attributes whose keys begin so are the service's.
const RESERVED: &str = "goog";

/// Whether it is the name of an attribute that is not ours to write: the service's, or the id's or the key's.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.is_empty() || name.starts_with(RESERVED) || [MESSAGE_UUID, KEY, KEY_BASE64].contains(&name)
}

/// The bytes that the service counts, and a little for the framing of what it does not.
pub(crate) fn bytes(message: &Native) -> usize {
    let attributes = message.attributes.iter().map(|(key, value)| key.len() + value.len());
    message.data.len() + message.ordering_key.len() + attributes.sum::<usize>()
}

/// Says which limit a message is beyond.
pub(crate) fn check(message: &Native) -> Result<(), String> {
    if message.data.is_empty() && message.attributes.is_empty() {
        return Err("a message needs a payload or an attribute, and this one has neither".to_owned());
    }
    if message.attributes.len() > ATTRIBUTES_MAX {
        let count = message.attributes.len();
        return Err(format!("{count} attributes, and Pub/Sub's limit is {ATTRIBUTES_MAX}, the id included"));
    }
    for (key, value) in &message.attributes {
        if key.is_empty() || key.starts_with(RESERVED) {
            return Err(format!(
                "the attribute {key:?}: Pub/Sub takes no empty key, and none with {RESERVED:?} before it"
            ));
        }
        within(&format!("the key of the attribute {key:?}"), key.len(), ATTRIBUTE_KEY_BYTES_MAX)?;
        within(&format!("the value of the attribute {key:?}"), value.len(), ATTRIBUTE_VALUE_BYTES_MAX)?;
    }
    within("the ordering key", message.ordering_key.len(), ORDERING_KEY_BYTES_MAX)?;
    within("the message", bytes(message), MESSAGE_BYTES_MAX)
}

fn within(what: &str, bytes: usize, limit: usize) -> Result<(), String> {
    if bytes <= limit {
        return Ok(());
    }
    Err(format!("{what} takes {bytes} bytes, and Pub/Sub's limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(attributes: impl IntoIterator<Item = (String, String)>) -> Native {
        Native::new().set_data("x").set_attributes(attributes)
    }

    fn attribute(key: usize, value: usize) -> (String, String) {
        ("k".repeat(key), "v".repeat(value))
    }

    #[test]
    fn what_is_within_every_limit_is_fine() {
        let attributes = (0..100).map(|n| (format!("{n:0256}"), "v".repeat(1024)));
        check(&with(attributes)).unwrap();
        check(&Native::new().set_data(vec![0; MESSAGE_BYTES_MAX])).unwrap();
        check(&Native::new().set_attributes([("a", "")])).unwrap();
    }

    #[test]
    fn each_limit_is_named_where_it_is_passed() {
        let refused = |message: Native| check(&message).unwrap_err();
        assert!(refused(Native::new()).contains("neither"));
        assert!(refused(Native::new().set_ordering_key("k")).contains("neither"));
        assert!(refused(with((0..101).map(|n| (n.to_string(), String::new())))).contains("limit is 100"));
        assert!(refused(with([attribute(257, 1)])).contains("limit is 256"));
        assert!(refused(with([attribute(1, 1025)])).contains("limit is 1024"));
        assert!(refused(with([attribute(0, 1)])).contains("empty key"));
        assert!(refused(with([("google".to_owned(), String::new())])).contains("goog"));
        let key = "k".repeat(1025);
        assert!(refused(Native::new().set_data("x").set_ordering_key(key)).contains("the ordering key"));
        let large = Native::new().set_data(vec![0; MESSAGE_BYTES_MAX + 1]);
        assert!(refused(large).contains("limit is 10000000"));
    }
}
