//! [`DeadLetters`]: where messages go that cannot be forwarded, in the order in which places are tried.

use std::{fmt, sync::Arc, time::Duration};

use watermill_core::{
    HandlerInfo, Message, Publisher, PublisherExt, Subscriber,
    error::{PublishError, PublishErrorKind, chain},
    metadata_keys,
};

use super::{
    item::Item,
    ours::{Answer, while_ours},
};
use crate::control::Shared;

/// The places for dead letters.
///
/// The source is the place that does not fail together with the destination: it keeps what it gave, in the
/// transaction that passes it where it is a database.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    topic: String,
    /// The publisher that was asked for, if any was.
    chosen: Option<Arc<dyn Publisher>>,
    /// Whether the source keeps what it is told to reject.
    source_keeps: bool,
    /// Where the source keeps nothing.
    last_resort: Option<Arc<dyn Publisher>>,
    handler: Arc<HandlerInfo>,
    call_timeout: Duration,
}

/// What became of a message that was to be dead-lettered.
pub(crate) enum Placed {
    Kept,
    /// The source has given it to another owner, or will deliver it again.
    Lost,
    /// No place has taken it.
    Refused(Box<Item>, PublishError),
}

impl DeadLetters {
    /// Chooses the places, and the subscriber to read from: one that keeps what is rejected, if it can.
    pub(crate) fn arrange(
        subscriber: &Arc<dyn Subscriber>,
        chosen: Option<Arc<dyn Publisher>>,
        last_resort: Option<Arc<dyn Publisher>>,
        handler: &Arc<HandlerInfo>,
        (topic, call_timeout): (&str, Duration),
    ) -> (Self, Arc<dyn Subscriber>) {
        let keeping = match subscriber.capabilities().dead_letters {
            true => Some(Arc::clone(subscriber)),
            false => subscriber.with_dead_letters(topic),
        };
        let places = Self {
            topic: topic.to_owned(),
            chosen,
            source_keeps: keeping.is_some(),
            last_resort,
            handler: Arc::clone(handler),
            call_timeout,
        };
        (places, keeping.unwrap_or_else(|| Arc::clone(subscriber)))
    }

    /// Whether anybody keeps them.
    pub(crate) fn have_a_place(&self) -> bool {
        self.source_keeps || self.chosen.is_some() || self.last_resort.is_some()
    }

    /// Takes a message to the first place that has it, and settles it. Published it is only as long as it is ours.
    pub(crate) async fn put(
        &self,
        item: Item,
        error: Option<&PublishError>,
        attempts: u32,
        shared: &Shared,
    ) -> Placed {
        // Its destination was asked for some time: what was lost meanwhile is for its new owner to give up.
        if item.is_lost() {
            return Placed::Lost;
        }
        let letter = item.dead_letter(&self.handler, error, attempts);
        if let Some(chosen) = &self.chosen {
            match self.publish(&**chosen, &item, &letter, shared).await {
                Answer::Answered(Ok(())) => return self.published(item, &letter).await,
                Answer::Lost => return Placed::Lost,
                // The publisher has refused nothing, and another relay may have the message.
                Answer::InDoubt(trouble) => return Placed::Refused(Box::new(item), trouble),
                Answer::Answered(Err(trouble)) | Answer::Late(trouble) if !self.source_keeps => {
                    return Placed::Refused(Box::new(item), trouble);
                }
                Answer::Answered(Err(trouble)) | Answer::Late(trouble) => tracing::warn!(
                    dead_letter_topic = %self.topic, error = %chain(&trouble),
                    "the publisher for dead letters did not take one, the source keeps it",
                ),
            }
        }
        if self.source_keeps {
            return match item.reject(&letter).await {
                Ok(()) => self.kept(&letter),
                Err(_) => Placed::Lost,
            };
        }
        let Some(last_resort) = &self.last_resort else {
            let nowhere = PublishError::new(PublishErrorKind::Unsupported, &*self.topic);
            return Placed::Refused(Box::new(item), nowhere.because("there is no place for dead letters"));
        };
        match self.publish(&**last_resort, &item, &letter, shared).await {
            Answer::Answered(Ok(())) => self.published(item, &letter).await,
            Answer::Lost => Placed::Lost,
            Answer::Answered(Err(trouble)) | Answer::InDoubt(trouble) | Answer::Late(trouble) => {
                Placed::Refused(Box::new(item), trouble)
            }
        }
    }

    async fn publish(
        &self,
        publisher: &dyn Publisher,
        item: &Item,
        letter: &Message,
        shared: &Shared,
    ) -> Answer<Result<(), PublishError>> {
        let call = publisher.publish_one(&self.topic, letter.clone());
        let of = (&*self.topic, std::slice::from_ref(item));
        while_ours(shared, publisher, of, self.call_timeout, call).await
    }

    async fn published(&self, item: Item, letter: &Message) -> Placed {
        // Not recorded, it comes again, and so does its dead letter: it is no less one.
        let _ = item.ack_confirmed().await;
        self.kept(letter)
    }

    /// Every dead letter is in the log.
    fn kept(&self, letter: &Message) -> Placed {
        let said = |name| letter.metadata().get(name);
        tracing::error!(
            message_id = letter.id().as_str(), dead_letter_topic = %self.topic,
            attempts = said(metadata_keys::ATTEMPTS_POISONED), reason = said(metadata_keys::REASON_POISONED),
            "dead-lettered",
        );
        Placed::Kept
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("topic", &self.topic)
            .field("chosen", &self.chosen.as_ref().map(|publisher| publisher.capabilities().backend))
            .field("source_keeps", &self.source_keeps)
            .finish_non_exhaustive()
    }
}
