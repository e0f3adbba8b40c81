//! Rejected messages go to the topic for dead letters, before they are acked.

use std::{error::Error, fmt};

use watermill_core::{Backoff, DeadLetter, Message, Publisher, error::chain, metadata_keys as keys};

use crate::{BACKEND, OrderingKeys, PubSubPublisher, limits, marshaler};

/// Where rejected messages go.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    publisher: PubSubPublisher,
    to: String,
    retry: Backoff,
}

impl DeadLetters {
    pub(crate) fn new(publisher: PubSubPublisher, to: &str, retry: Backoff) -> Self {
        Self { publisher, to: to.to_owned(), retry }
    }

    /// Sends one until it is accepted, whatever it is refused for: a topic that is not ours to write, or one
    /// with a schema, is mended sooner or later, and the message is in no better place meanwhile. Whoever does
    /// not want to wait any more drops the future: the message is nacked then.
    pub(crate) async fn send(self, from: String, message: Message, reason: String, attempts: u32) {
        let letter = letter(&self.to, &from, message, reason, attempts);
        for attempt in 0.. {
            let Err(error) = self.publisher.publish(&self.to, vec![letter.clone()]).await else { return };
            let wait = self.retry.delay(attempt);
            tracing::error!(
                topic = self.to,
                message_id = %letter.id(),
                error = chain(&error),
                ?wait,
                "a dead letter could not be sent, trying again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.publisher.close().await {
            tracing::warn!(error = chain(&error), "the publisher of dead letters could not be closed");
        }
    }
}

/// The story of a rejection, what matters most at the end.
const STORY: &[&str] = &[
    keys::SUBSCRIBER_POISONED,
    keys::FAILED_AT_POISONED,
    keys::ATTEMPTS_POISONED,
    keys::HANDLER_POISONED,
    keys::TOPIC_POISONED,
    keys::REASON_POISONED,
];

/// The message as it came, with the story of its rejection.
fn letter(to: &str, from: &str, message: Message, reason: String, attempts: u32) -> Message {
    let mut letter = DeadLetter::message(message, &Rejected(reason), attempts);
    let metadata = letter.metadata_mut();
    metadata.insert(keys::TOPIC_POISONED, from);
    metadata.insert(keys::SUBSCRIBER_POISONED, BACKEND);
    fit(to, letter)
}

/// Leaves out what Pub/Sub takes from nobody but itself, and as much of the story as is beyond a limit. The
/// message was within them, but for an id that it did not have: then it is short of one attribute in the end.
fn fit(to: &str, mut letter: Message) -> Message {
    let names: Vec<String> = letter.metadata().iter().map(|(name, _)| name.to_owned()).collect();
    let (own, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| limits::is_reserved(name));
    own.into_iter().for_each(|name| drop(letter.metadata_mut().remove(name)));
    let mut left_out = Vec::new();
    let candidates = STORY.iter().copied().chain(others.iter().rev().map(|name| name.as_str()));
    for name in candidates {
        if marshaler::write(to, &letter, &OrderingKeys::MessageKey).is_ok() {
            break;
        }
        if letter.metadata_mut().remove(name).is_some() {
            left_out.push(name);
        }
    }
    if !left_out.is_empty() {
        tracing::warn!(message_id = %letter.id(), ?left_out, "a dead letter has no room for these attributes");
    }
    letter
}

#[derive(Debug)]
struct Rejected(String);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Rejected {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_hundred_attributes_and_no_id_is_a_dead_letter_all_the_same() {
        let foreign = (0..100).fold(Message::with_id("", "x"), |message, number| {
            message.with_metadata(format!("{number:03}"), "value")
        });
        let letter = letter("dead", "orders", foreign, "broken".to_owned(), 1);
        assert_eq!(letter.metadata().len(), 99);
        assert!(!letter.metadata().contains("099") && !letter.metadata().contains(keys::REASON_POISONED));
    }

    #[test]
    fn what_the_service_and_the_marshaler_keep_to_themselves_is_left_out() {
        let odd = Message::new("x")
            .with_metadata("googclient_schemaencoding", "JSON")
            .with_metadata(keys::KEY_BASE64, "%")
            .with_metadata("mine", "yes");
        let letter = letter("dead", "orders", odd, "broken".to_owned(), 3);
        let has = |name| letter.metadata().get(name);
        assert_eq!((has("googclient_schemaencoding"), has(keys::KEY_BASE64)), (None, None));
        assert_eq!((has("mine"), has(keys::ATTEMPTS_POISONED)), (Some("yes"), Some("3")));
    }
}
