//! [`MessageId`]: text of any length, without an allocation up to 38 bytes.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash, ops::Deref, sync::Arc};

use uuid::Uuid;

/// Enough for a UUID (36 characters) in the space the enum needs anyway.
const INLINE_BYTES_MAX: usize = 38;

/// The identity of a message: a UUID version 7 in text form unless a foreign system chose otherwise.
///
/// Any text is accepted, the empty one too, because other writers use it. Ids made here are 36
/// characters, the width of the column that Go Watermill's SQL tables have for them.
#[derive(Clone)]
pub struct MessageId(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Shared(Arc<str>),
}

impl MessageId {
    /// A fresh UUID version 7: ids of one process sort by the time they were made.
    pub fn new() -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut bytes);
        let len = text.len() as u8;
        Self(Repr::Inline { len, bytes })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // The bytes come from a `str` in every constructor; empty would be the answer to a bug.
            Repr::Inline { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
            Repr::Shared(text) => text,
        }
    }
}

impl Default for MessageId {
    /// The empty id.
    fn default() -> Self {
        Self(Repr::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] })
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        if text.len() > INLINE_BYTES_MAX {
            return Self(Repr::Shared(text.into()));
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(Repr::Inline { len: text.len() as u8, bytes })
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self::from(&*uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl Deref for MessageId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for MessageId {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for MessageId {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MessageId {}

impl PartialEq<str> for MessageId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MessageId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MessageId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl hash::Hash for MessageId {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_kept_as_it_is() {
        for text in ["", "a", &"x".repeat(INLINE_BYTES_MAX), &"ü".repeat(40)] {
            assert_eq!(MessageId::from(text).as_str(), text);
        }
    }

    #[test]
    fn fresh_ids_fit_a_36_character_column_and_sort_by_time() {
        let (a, b) = (MessageId::new(), MessageId::new());
        assert_eq!(a.len(), 36);
        assert!(a < b);
    }
}
