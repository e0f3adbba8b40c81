//! [`Letter`]: a dead letter, and what its metadata say about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use watermill_core::{Message, metadata_keys as keys};

use super::group;
use crate::Envelope;

/// How often a message was sent again after it had been given up, in its metadata, in decimal.
pub const REDRIVEN: &str = "redriven_poisoned";
/// When it failed for the first time, in whole milliseconds since the Unix epoch.
pub const FIRST_FAILED_AT: &str = "first_failed_at_ms_poisoned";

/// What a store makes of a payload that it cannot hold.
const UNSTORABLE_PAYLOAD: &str = "payload_poisoned";

/// What a failure has written into the metadata.
const STORY: &[&str] = &[
    keys::REASON_POISONED,
    keys::TOPIC_POISONED,
    keys::HANDLER_POISONED,
    keys::SUBSCRIBER_POISONED,
    keys::ATTEMPTS_POISONED,
    keys::FAILED_AT_POISONED,
    keys::PARTITION_POISONED,
    keys::OFFSET_POISONED,
    UNSTORABLE_PAYLOAD,
];

/// A dead letter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Letter {
    /// Where it is in its store, oldest first.
    pub place: i64,
    /// As it is stored: the envelope, with the story of its failure in the metadata.
    pub message: Message,
    /// The id of the message inside, or its own where there is none inside.
    pub id: String,
    /// Where it was to go; `None` for what is no envelope.
    pub destination: Option<String>,
    /// `message`, `topic`, `refused`, `unsupported`, `unreadable` or `other`.
    pub kind: &'static str,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: Option<u32>,
    /// When it failed first.
    pub first_failed_at: Option<SystemTime>,
    /// When it failed last.
    pub failed_at: Option<SystemTime>,
    /// How often it was sent again before, and has failed again.
    pub redriven: u32,
}

impl Letter {
    /// Reads what a store holds at a place.
    pub fn read(place: i64, message: Message, stored_at: Option<SystemTime>) -> Self {
        let metadata = message.metadata();
        let said = |name| metadata.get(name).unwrap_or_default();
        let (reason, tries) = split_attempts(said(keys::REASON_POISONED));
        let time = |name| {
            let ms = metadata.get(name)?.parse().ok()?;
            UNIX_EPOCH.checked_add(Duration::from_millis(ms))
        };
        let failed_at = time(keys::FAILED_AT_POISONED).or(stored_at);
        let envelope = Envelope::unwrap(&restored(&message)).ok();
        let id = envelope.as_ref().map_or(message.id(), |envelope| envelope.message().id());
        Self {
            place,
            id: id.as_str().to_owned(),
            destination: envelope.map(|envelope| envelope.destination().to_owned()),
            kind: kind(reason),
            reason: reason.to_owned(),
            attempts: tries.or_else(|| said(keys::ATTEMPTS_POISONED).parse().ok()),
            first_failed_at: time(FIRST_FAILED_AT).or(failed_at),
            failed_at,
            redriven: said(REDRIVEN).parse().unwrap_or(0),
            message,
        }
    }

    /// The message inside, as it was published; `None` for what is no envelope.
    pub fn original(&self) -> Option<Message> {
        Envelope::unwrap(&restored(&self.message)).ok().map(|envelope| envelope.into_parts().1)
    }

    /// What tells letters apart that failed for the same cause.
    pub fn fingerprint(&self) -> String {
        group::fingerprint(&self.reason)
    }

    /// The envelope as it was before it was given up, with a count of how often it was sent again.
    pub(super) fn again(&self) -> Message {
        let mut message = restored(&self.message);
        let metadata = message.metadata_mut();
        for name in STORY {
            metadata.remove(name);
        }
        metadata.insert(REDRIVEN, self.redriven.saturating_add(1).to_string());
        if let Some(first) = self.first_failed_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            metadata.insert(FIRST_FAILED_AT, first.as_millis().to_string());
        }
        message
    }
}

/// With the payload that its store could not hold.
fn restored(message: &Message) -> Message {
    let mut message = message.clone();
    let kept = message.metadata().get(UNSTORABLE_PAYLOAD).and_then(|text| BASE64_STANDARD.decode(text).ok());
    if let Some(payload) = kept {
        message.set_payload(payload);
    }
    message
}

/// The source is told the attempts behind the reason.
fn split_attempts(reason: &str) -> (&str, Option<u32>) {
    let split = reason.rsplit_once(" (attempts: ").and_then(|(reason, rest)| {
        let attempts = rest.strip_suffix(')')?.parse().ok()?;
        Some((reason, attempts))
    });
    match split {
        Some((reason, attempts)) => (reason, Some(attempts)),
        None => (reason, None),
    }
}

/// The kind of an error, by the words that it is told in.
fn kind(reason: &str) -> &'static str {
    const WORDS: &[(&str, &str)] = &[
        ("unwrap the envelope", "unreadable"),
        ("a message cannot be represented", "message"),
        ("the topic cannot be used", "topic"),
        ("does not support this", "unsupported"),
        ("the backend refused", "refused"),
    ];
    let found = WORDS.iter().filter_map(|(words, kind)| Some((reason.find(words)?, *kind)));
    found.min().map_or("other", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use watermill_core::error::{PublishError, PublishErrorKind};

    use super::*;

    fn stored() -> Message {
        let inner = Message::with_id("u1", "x").with_metadata("a", "b").with_key("k");
        Envelope::new("orders", inner)
            .wrap()
            .with_metadata(
                keys::REASON_POISONED,
                "publish to \"orders\": the backend refused: no (attempts: 5)",
            )
            .with_metadata(keys::ATTEMPTS_POISONED, "1")
            .with_metadata(keys::FAILED_AT_POISONED, "2000")
    }

    #[test]
    fn a_letter_tells_its_story() {
        let letter = Letter::read(7, stored(), None);
        assert_eq!((&*letter.id, letter.destination.as_deref()), ("u1", Some("orders")));
        assert_eq!((letter.kind, letter.attempts), ("refused", Some(5)));
        assert_eq!(letter.reason, "publish to \"orders\": the backend refused: no");
        assert_eq!(letter.first_failed_at, Some(UNIX_EPOCH + Duration::from_secs(2)));
        assert_eq!(letter.original().unwrap().metadata().get("a"), Some("b"));
    }

    #[test]
    fn what_is_sent_again_is_as_it_was_and_counted() {
        let stored = stored();
        let again = Letter::read(7, stored.clone(), None).again();
        assert_eq!(again.id(), stored.id());
        assert_eq!(again.key().unwrap(), "k");
        assert_eq!(Envelope::unwrap(&again).unwrap().message().id(), "u1");
        assert_eq!(again.metadata().len(), 2);
        let failed = again.with_metadata(keys::FAILED_AT_POISONED, "9000");
        let letter = Letter::read(8, failed, None);
        assert_eq!(letter.redriven, 1);
        assert_eq!(letter.first_failed_at, Some(UNIX_EPOCH + Duration::from_secs(2)));
        assert_eq!(letter.failed_at, Some(UNIX_EPOCH + Duration::from_secs(9)));
    }

    #[test]
    fn a_payload_that_the_store_could_not_hold_is_there_again() {
        let stored = Message::new("").with_metadata(UNSTORABLE_PAYLOAD, "/wA=");
        let letter = Letter::read(1, stored, None);
        assert_eq!(letter.destination, None);
        assert_eq!(letter.again().payload(), &[0xff, 0x00][..]);
    }

    #[test]
    fn every_kind_of_error_that_gives_up_a_message_is_known_by_its_words() {
        for (error, expected) in [
            (PublishErrorKind::Message, "message"),
            (PublishErrorKind::Topic, "topic"),
            (PublishErrorKind::Refused, "refused"),
            (PublishErrorKind::Unsupported, "unsupported"),
        ] {
            assert_eq!(kind(&PublishError::new(error, "t").to_string()), expected);
        }
        let unreadable = Envelope::from_json(b"x").unwrap_err();
        assert_eq!(kind(&unreadable.to_string()), "unreadable");
        assert_eq!(kind("something else"), "other");
    }
}
