//! Rejected messages go to the topic for dead letters, before they are acked.

use std::{error::Error, fmt};

use watermill_core::{
    Backoff, DeadLetter, Message, Publisher,
    error::{PublishError, PublishErrorKind, chain},
    metadata_keys as keys,
};

use crate::{BACKEND, PubSubPublisher};

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

    /// Sends one until it is accepted. Whoever does not want to wait any more drops the future: the message
    /// is nacked then. One that the service can never take is dropped, with an error in the log.
    pub(crate) async fn send(self, from: String, message: Message, reason: String, attempts: u32) {
        for attempt in 0.. {
            let letter = letter(&from, message.clone(), &reason, attempts);
            let Err(error) = self.publisher.publish(&self.to, vec![letter]).await else { return };
            if error.kind() == PublishErrorKind::Message {
                tracing::error!(
                    topic = from,
                    message_id = %message.id(),
                    reason,
                    error = chain(&error),
                    "a rejected message cannot be a dead letter and is dropped"
                );
                return;
            }
            let wait = self.retry.delay(attempt);
            self.log(&error, wait);
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.publisher.close().await {
            tracing::warn!(error = chain(&error), "the publisher of dead letters could not be closed");
        }
    }

    fn log(&self, error: &PublishError, wait: std::time::Duration) {
        tracing::error!(
            topic = self.to,
            error = chain(error),
            ?wait,
            "a dead letter could not be sent, trying again"
        );
    }
}

/// The message as it came, with the story of its rejection.
fn letter(from: &str, message: Message, reason: &str, attempts: u32) -> Message {
    let mut letter = DeadLetter::message(message, &Rejected(reason.to_owned()), attempts);
    let metadata = letter.metadata_mut();
    metadata.insert(keys::TOPIC_POISONED, from);
    metadata.insert(keys::SUBSCRIBER_POISONED, BACKEND);
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
