//! The metadata entry that carries a message's key, for backends that have no other place for it.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;

use crate::{
    Metadata,
    error::BoxError,
    metadata_keys::{KEY, KEY_BASE64},
};

/// The entry of a key: as text where it is text, else in base64. [`take_key`] reads it.
///
/// ```
/// use watermill_core::{Metadata, backend::{key_entry, take_key}};
///
/// let mut metadata = Metadata::new();
/// let (name, value) = key_entry(b"customer-7");
/// metadata.insert(name, value);
/// assert_eq!(metadata.get("_watermill_key"), Some("customer-7"));
/// assert_eq!(take_key(&mut metadata).unwrap().unwrap(), "customer-7");
/// assert!(metadata.is_empty());
/// ```
pub fn key_entry(key: &[u8]) -> (&'static str, Cow<'_, str>) {
    key_entry_where(key, |_| true)
}

/// The same for metadata that cannot hold every text, headers for instance: what does not fit is in base64.
pub fn key_entry_where(key: &[u8], fits: impl FnOnce(&str) -> bool) -> (&'static str, Cow<'_, str>) {
    match str::from_utf8(key) {
        Ok(text) if fits(text) => (KEY, Cow::Borrowed(text)),
        _ => (KEY_BASE64, Cow::Owned(BASE64_STANDARD.encode(key))),
    }
}

/// Takes the entry of the key out of metadata that were read, and returns the key.
///
/// # Errors
///
/// When there are two, or what should be base64 is not.
pub fn take_key(metadata: &mut Metadata) -> Result<Option<Bytes>, BoxError> {
    let mut key_of = |name| key_of_entry(name, &metadata.remove(name)?);
    match (key_of(KEY), key_of(KEY_BASE64)) {
        (Some(_), Some(_)) => Err("there are two keys in the metadata".into()),
        (text, encoded) => text.or(encoded).transpose(),
    }
}

/// The key, if the entry is that of a key: for what is read entry by entry.
///
/// # Errors
///
/// When the entry should be base64 and is not.
pub fn key_of_entry(name: &str, value: &str) -> Option<Result<Bytes, BoxError>> {
    match name {
        KEY => Some(Ok(Bytes::copy_from_slice(value.as_bytes()))),
        KEY_BASE64 => {
            let decoded = BASE64_STANDARD.decode(value);
            Some(decoded.map(Bytes::from).map_err(|error| format!("the key is not base64: {error}").into()))
        }
        _ => None,
    }
}

/// Refuses metadata that have such an entry of their own, with the reason: the message would come back with
/// another key.
///
/// # Errors
///
/// As above, as a lowercase fragment.
pub fn refuse_key_entries(metadata: &Metadata) -> Result<(), String> {
    match [KEY, KEY_BASE64].into_iter().find(|reserved| metadata.contains(reserved)) {
        Some(reserved) => {
            Err(format!("the metadata entry {reserved:?} is reserved for the key: use Message::with_key"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_bytes_comes_back() {
        for key in [&b""[..], b"k", "ü\0".as_bytes(), b"\xff\0"] {
            let (name, value) = key_entry(key);
            assert_eq!(key_of_entry(name, &value).unwrap().unwrap(), key);
            let mut metadata = Metadata::from_iter([(name, &*value), ("other", "k")]);
            assert_eq!(take_key(&mut metadata).unwrap().unwrap(), key);
            assert_eq!(metadata.len(), 1);
        }
        assert!(take_key(&mut Metadata::new()).unwrap().is_none());
        assert!(take_key(&mut Metadata::from_iter([(KEY, "k"), (KEY_BASE64, "AP8=")])).is_err());
        assert!(take_key(&mut Metadata::from_iter([(KEY_BASE64, "!")])).is_err());
        assert!(key_of_entry("other", "k").is_none());
        assert!(key_of_entry(KEY_BASE64, "!").unwrap().is_err());
    }

    #[test]
    fn a_key_that_does_not_fit_as_text_is_in_base64() {
        assert_eq!(key_entry_where(b"a\n", |text| !text.contains('\n')), (KEY_BASE64, "YQo=".into()));
        assert_eq!(key_entry_where(b"a", |text| !text.contains('\n')), (KEY, "a".into()));
    }

    #[test]
    fn an_entry_that_would_become_the_key_is_refused() {
        for name in [KEY, KEY_BASE64] {
            let mut metadata = Metadata::new();
            metadata.insert(name, "k");
            let refused = refuse_key_entries(&metadata).unwrap_err();
            assert!(refused.contains("with_key"), "{refused}");
        }
        assert_eq!(refuse_key_entries(&Metadata::new()), Ok(()));
    }
}
