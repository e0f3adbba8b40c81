//! Tombstones: messages without a value.

use bytes::Bytes;

use super::Message;

/// What the payload of a tombstone points into. An address within it is that of no other empty payload: of those a
/// slice may end where this begins, and none inside of it.
static NO_VALUE: [u8; 2] = [0; 2];

impl Message {
    /// A message that has no value, which is something else than an empty one where a topic is compacted: it deletes
    /// what was published of its key before.
    ///
    /// Its payload is empty, and it equals a message that has an empty one. It stays what it is through handlers that
    /// hand on the message or its payload, in memory, through Kafka and in the forwarder's envelopes, and is what a row without
    /// a payload is of an SQL table that is not ours; other backends keep the empty payload.
    ///
    /// ```
    /// use watermill_core::Message;
    ///
    /// let tombstone = Message::tombstone("customer-7");
    /// assert!(tombstone.is_tombstone() && tombstone.payload().is_empty());
    /// let copy = Message::new(tombstone.payload().clone()).with_key("customer-7");
    /// assert!(copy.is_tombstone());
    /// assert!(!Message::new("").with_key("customer-7").is_tombstone());
    /// ```
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self::new(no_value()).with_key(key)
    }

    /// The same message without its value: what a marshaler makes of a record that has none.
    #[must_use]
    pub fn without_value(mut self) -> Self {
        self.set_payload(no_value());
        self
    }

    /// Whether it has no value.
    pub fn is_tombstone(&self) -> bool {
        let payload = self.payload();
        payload.is_empty() && payload.as_ptr() == NO_VALUE[1..].as_ptr()
    }
}

fn no_value() -> Bytes {
    Bytes::from_static(&NO_VALUE[1..1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_stays_one_while_it_is_copied_and_changed_elsewhere() {
        let tombstone = Message::with_id("1", "x").with_key("k").without_value();
        assert_eq!((tombstone.id().as_str(), tombstone.key().unwrap().as_ref()), ("1", &b"k"[..]));
        let changed = tombstone.clone().with_metadata("a", "b").without_context();
        let (.., payload) = changed.clone().into_parts();
        for copy in
            [tombstone.clone(), changed, Message::new(payload), Message::new(tombstone.payload().clone())]
        {
            assert!(copy.is_tombstone());
        }
        let mut filled = tombstone.clone();
        filled.set_payload("");
        assert!(!filled.is_tombstone());
        assert_eq!(tombstone, filled, "who does not ask sees an empty payload");
    }

    #[test]
    fn no_other_empty_payload_is_taken_for_a_tombstone() {
        let mut drained = Bytes::from_static(b"abc");
        let rest = drained.split_off(3);
        for empty in [Bytes::new(), Bytes::from(Vec::new()), rest, Bytes::from_static(b"")] {
            assert!(!Message::new(empty).is_tombstone());
        }
    }
}
