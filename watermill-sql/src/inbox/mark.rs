//! [`Mark`]: by what a message is known again.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use watermill_core::Message;

use super::{InboxError, InboxErrorKind, SqlInboxConfig};

/// The longest text of a column, in bytes: three of them are a key on every database.
const BYTES_MAX: usize = 255;

/// What a text is called that is not stored as it is.
const HASHED: &str = "sha256:";

/// The row of a message in the table of marks. Each column is at most 255 bytes, without a zero byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub(crate) consumer: String,
    /// Empty where ids are the same across topics.
    pub(crate) topic: String,
    pub(crate) id: String,
}

impl Mark {
    /// The mark of a message; `None` for one without an id, which cannot be known again, and where the ack is the mark.
    pub(crate) fn of(message: &Message, config: &SqlInboxConfig) -> Result<Option<Self>, InboxError> {
        if config.joins_ack || message.id().is_empty() {
            return Ok(None);
        }
        let handler = message.handler();
        let consumer =
            config.consumer.as_deref().or(handler.map(|handler| &*handler.name)).ok_or_else(|| {
                let why = "the message comes from no handler, so name a consumer: `SqlInboxConfig::consumer`";
                InboxError::because(InboxErrorKind::Config, why)
            })?;
        let topic = match message.delivery() {
            _ if config.across_topics => "",
            Some(delivery) => delivery.topic(),
            None => handler.map_or("", |handler| &handler.subscribe_topic),
        };
        Ok(Some(Self { consumer: column(consumer), topic: column(topic), id: column(message.id().as_str()) }))
    }
}

/// A text as it is stored: itself, or its SHA-256 where the column does not hold it.
///
/// Nothing is taken for anything else. What begins like a hash is hashed, too, so that a text that is stored as it is
/// is never equal to a hash. And of two texts that are hashed the hashes differ: among 2^64 ids, which is a billion a second
/// for 500 years, the chance of one equal pair is 2^-129, and nobody knows how to make one.
fn column(text: &str) -> String {
    let is_stored = text.len() <= BYTES_MAX && !text.starts_with(HASHED) && !text.contains('\0');
    let stored: Cow<'_, str> = match is_stored {
        true => text.into(),
        false => format!("{HASHED}{}", hex(&Sha256::digest(text))).into(),
    };
    stored.into_owned()
}

/// Bytes as every database reads them in a literal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watermill_core::HandlerInfo;

    use super::*;

    fn mark(message: &Message, config: &SqlInboxConfig) -> Mark {
        Mark::of(message, config).unwrap().unwrap()
    }

    fn handled_by(handler: &str, topic: &str, id: &str) -> Message {
        let info = HandlerInfo::consumer(handler, "memory", topic);
        Message::with_id(id.to_owned(), "x").with_handler(Arc::new(info))
    }

    #[test]
    fn a_message_is_known_by_its_handler_its_topic_and_its_id() {
        let config = SqlInboxConfig::default();
        let bill = mark(&handled_by("bill", "orders", "1"), &config);
        assert_eq!(bill, Mark { consumer: "bill".into(), topic: "orders".into(), id: "1".into() });
        for other in [("ship", "orders", "1"), ("bill", "refunds", "1"), ("bill", "orders", "2")] {
            assert_ne!(mark(&handled_by(other.0, other.1, other.2), &config), bill);
        }
    }

    #[test]
    fn a_named_consumer_is_one_whatever_the_handler_and_topics_count_unless_told_otherwise() {
        let config = SqlInboxConfig::default().consumer("billing");
        let (one, two) = (handled_by("a", "orders", "1"), handled_by("b", "orders", "1"));
        assert_eq!(mark(&one, &config), mark(&two, &config));
        let moved = handled_by("a", "orders.again", "1");
        assert_ne!(mark(&one, &config), mark(&moved, &config));
        let config = config.across_topics(true);
        assert_eq!(mark(&one, &config), mark(&moved, &config));
    }

    #[test]
    fn without_a_name_nothing_is_marked_as_somebody_elses() {
        let error = Mark::of(&Message::new("x"), &SqlInboxConfig::default()).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::Config);
        assert_eq!(Mark::of(&Message::with_id("", "x"), &SqlInboxConfig::default()).unwrap(), None);
    }

    #[test]
    fn what_the_column_does_not_hold_is_hashed_and_never_equal_to_anything_else() {
        let long = "é".repeat(128);
        assert_eq!(column(&"x".repeat(255)), "x".repeat(255));
        let hashed = column(&long);
        assert_eq!((hashed.len(), &hashed[..7]), (7 + 64, "sha256:"));
        assert_ne!(hashed, column(&format!("{long}é")));
        // Somebody may call a message what another's hash is.
        assert_ne!(column(&hashed), hashed);
        assert!(!column("a\0b").contains('\0'));
    }
}
