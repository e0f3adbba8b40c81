//! [`DeadLetter`]: where messages go that could not be handled.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Message, Metadata, Publisher, PublisherExt,
    error::{BoxError, Delayed, Nack, PublishError, chain, find},
    message::delay,
    metadata_keys as keys,
};

/// The most of an error's text that a dead letter carries, in bytes: what a Pub/Sub attribute holds,
/// and little enough for any backend's headers.
pub const REASON_BYTES_MAX: usize = 1024;

/// A topic for messages that could not be handled, and the publisher that takes them there.
///
/// A dead letter is the message as it came (id, key, metadata, payload) with the story of its failure
/// in its metadata, under the names that Go Watermill uses and some more: see
/// [`metadata_keys`](crate::metadata_keys).
///
/// The [`PoisonQueue`](crate::middleware::PoisonQueue) layer sends here, and so does a
/// [`FailurePolicy`](crate::FailurePolicy) that ends with a dead letter.
#[derive(Clone)]
pub struct DeadLetter {
    publisher: Arc<dyn Publisher>,
    topic: Arc<str>,
    /// After how long a letter is due, where it is to be tried again.
    delay: Option<Duration>,
    /// Whether its messages have been letters before, of which their first failure is to be told.
    goes_on: bool,
}

/// What a letter tells of the place where its message failed first.
const FIRST_FAILURE: [&str; 5] = [
    keys::TOPIC_POISONED,
    keys::HANDLER_POISONED,
    keys::SUBSCRIBER_POISONED,
    keys::PARTITION_POISONED,
    keys::OFFSET_POISONED,
];

impl DeadLetter {
    /// Dead letters go to `topic` of `publisher`.
    ///
    /// # Errors
    ///
    /// [`EmptyTopic`] when `topic` is empty.
    pub fn new(publisher: impl Publisher + 'static, topic: impl Into<Arc<str>>) -> Result<Self, EmptyTopic> {
        let topic = topic.into();
        if topic.is_empty() {
            return Err(EmptyTopic(()));
        }
        Ok(Self { publisher: Arc::new(publisher), topic, delay: None, goes_on: false })
    }

    /// The same place, where letters are due after `delay`: to be tried again from there.
    pub(crate) fn due_after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The same place, for messages that come from a letter: the next one names the place of the first failure, and
    /// its attempts are those of all.
    pub(crate) fn going_on(mut self) -> Self {
        self.goes_on = true;
        self
    }

    /// After how long its letters are due, where they are to be tried again.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The publisher.
    pub fn publisher(&self) -> &Arc<dyn Publisher> {
        &self.publisher
    }

    /// Turns a message that failed with `error` for the last time, after `attempts` tries, into its
    /// dead letter.
    ///
    /// The reason is the error with its sources on one line, without control characters, cut at
    /// [`REASON_BYTES_MAX`]. A [`Delayed`] error has its delay written down too. A message that was dead-lettered before tells of its latest failure only.
    pub fn message(message: Message, error: &(dyn Error + 'static), attempts: u32) -> Message {
        let handler = message.handler();
        let delivery = message.delivery();
        let handler_name = handler.map(|handler| handler.name.clone());
        let topic = handler
            .map(|handler| handler.subscribe_topic.clone())
            .or_else(|| delivery.map(|delivery| delivery.topic().to_owned()));
        let subscriber = handler
            .map(|handler| handler.subscriber.clone())
            .or_else(|| delivery.map(|delivery| delivery.origin().backend().to_owned()));
        let partition = delivery.and_then(|delivery| delivery.partition());
        let offset = delivery.and_then(|delivery| delivery.offset());

        let mut letter = message.without_context();
        let metadata = letter.metadata_mut();
        set(metadata, keys::REASON_POISONED, Some(reason(error)));
        set(metadata, keys::TOPIC_POISONED, topic);
        set(metadata, keys::HANDLER_POISONED, handler_name);
        set(metadata, keys::SUBSCRIBER_POISONED, subscriber);
        set(metadata, keys::ATTEMPTS_POISONED, Some(attempts));
        set(metadata, keys::FAILED_AT_POISONED, Some(now_ms()));
        set(metadata, keys::PARTITION_POISONED, partition);
        set(metadata, keys::OFFSET_POISONED, offset);
        if let Some(delayed) = find::<Delayed>(error) {
            delay::write(metadata, delayed.delay(), delayed.until());
        }
        letter
    }

    /// The letter of a message that comes from a letter.
    fn next_message(message: Message, error: &(dyn Error + 'static), attempts: u32) -> Message {
        let said = message.metadata();
        let before = said.get(keys::ATTEMPTS_POISONED).and_then(|text| text.parse().ok()).unwrap_or(0);
        let first = FIRST_FAILURE.map(|name| said.get(name).map(str::to_owned));
        let has_story = said.contains(keys::TOPIC_POISONED);
        let mut letter = Self::message(message, error, attempts.saturating_add(before));
        if has_story {
            for (name, value) in FIRST_FAILURE.into_iter().zip(first) {
                set(letter.metadata_mut(), name, value);
            }
        }
        letter
    }

    /// Publishes the dead letter of a message.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`], which gives `error` back: the message is in no better place than before.
    ///
    /// # Cancel safety
    ///
    /// As [`Publisher::publish`]: dropped, the letter may have been published or not.
    pub async fn send(
        &self,
        message: Message,
        error: BoxError,
        attempts: u32,
    ) -> Result<(), DeadLetterError> {
        let capabilities = self.publisher.capabilities();
        let delivery = message.delivery().filter(|_| capabilities.commits_with_ack).cloned();
        let mut letter = if self.goes_on {
            Self::next_message(message, &*error, attempts)
        } else {
            Self::message(message, &*error, attempts)
        };
        if let Some(delay) = self.delay {
            letter = letter.delay_for(delay);
            if !capabilities.delays {
                // Whoever reads it waits.
                letter.forget_delay();
            }
        }
        if let Some(delivery) = delivery {
            letter.set_delivery(delivery);
        }
        let sent = self.publisher.publish_one(&self.topic, letter).await;
        sent.map_err(|source| DeadLetterError { failure: error, source: Nack::new(source) })
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("publisher", &self.publisher.capabilities().backend)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// A dead letter was to go to the empty topic.
#[derive(Debug)]
pub struct EmptyTopic(());

impl fmt::Display for EmptyTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set up dead letters: the topic is empty, name one")
    }
}

impl Error for EmptyTopic {}

/// A message could not be handled, and its dead letter could not be published.
///
/// Its source is the publisher's error, since that is what has to be mended now. It is marked with
/// [`Nack`]: whatever becomes of a message that cannot be handled, this one comes again.
#[derive(Debug)]
pub struct DeadLetterError {
    failure: BoxError,
    source: Nack,
}

impl DeadLetterError {
    /// Why the message could not be handled.
    pub fn failure(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.failure
    }

    /// Why its dead letter could not be published.
    pub fn publish_error(&self) -> &PublishError {
        find(self.source.get_ref()).expect("it is made of a publish error")
    }
}

impl fmt::Display for DeadLetterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dead-letter a message that failed with {:?}", reason(&*self.failure))
    }
}

impl Error for DeadLetterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Sets an entry, or removes what an earlier failure left there.
fn set(metadata: &mut Metadata, name: &str, value: Option<impl ToString>) {
    match value {
        Some(value) => metadata.insert(name, value.to_string()),
        None => metadata.remove(name),
    };
}

/// Text that every backend can carry: one line, of a bounded size.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    const ELLIPSIS: &str = "...";
    let mut text = chain(error);
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    // A NUL is refused by PostgreSQL, a line break by backends whose metadata are HTTP headers: a
    // letter that cannot be published for its reason would be lost.
    text.replace(char::is_control, " ")
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Outcomes, RecordingPublisher};

    fn letter_of(error: impl Into<BoxError>) -> Message {
        DeadLetter::message(Message::with_id("1", "x"), &*error.into(), 1)
    }

    #[tokio::test]
    async fn a_dead_letter_is_the_message_with_the_story_of_its_failure() {
        let publisher = RecordingPublisher::default();
        let dead_letter = DeadLetter::new(publisher.clone(), "dead").unwrap();
        let delivery =
            Outcomes::default().deliver(Message::with_id("1", "x").with_key("k").with_metadata("a", "b"));
        dead_letter.send(delivery.message().clone(), "boom".into(), 7).await.unwrap();

        let (topic, mut letter) = publisher.single();
        assert_eq!(topic, "dead");
        assert!(letter.delivery().is_none());
        let failed_at = letter.metadata_mut().remove(keys::FAILED_AT_POISONED).unwrap();
        assert!(failed_at.parse::<u64>().unwrap() > 1_600_000_000_000, "{failed_at}");
        let expected = Message::with_id("1", "x")
            .with_key("k")
            .with_metadata("a", "b")
            .with_metadata("reason_poisoned", "boom")
            .with_metadata("topic_poisoned", "orders")
            .with_metadata("handler_poisoned", "bill")
            .with_metadata("subscriber_poisoned", "memory")
            .with_metadata("attempts_poisoned", "7")
            .with_metadata("partition_poisoned", "3")
            .with_metadata("offset_poisoned", "42");
        assert_eq!(letter, expected);
    }

    #[test]
    fn a_message_without_metadata_and_context_becomes_a_dead_letter_too() {
        // P7: Go panics on a message whose metadata map was never made.
        let letter = DeadLetter::message(Message::default(), &std::fmt::Error, 1);
        assert!(letter.metadata().contains(keys::REASON_POISONED));
        assert!(!letter.metadata().contains(keys::HANDLER_POISONED));
    }

    #[test]
    fn a_second_failure_leaves_nothing_of_the_first() {
        let delivery = Outcomes::default().deliver(Message::with_id("1", "x"));
        let first = DeadLetter::message(delivery.message().clone(), &std::fmt::Error, 5);
        let second = DeadLetter::message(first, &*BoxError::from("other"), 1);
        assert_eq!(second.metadata().get(keys::REASON_POISONED), Some("other"));
        assert_eq!(second.metadata().get(keys::ATTEMPTS_POISONED), Some("1"));
        assert_eq!(second.metadata().get(keys::OFFSET_POISONED), None);
    }

    #[test]
    fn the_reason_is_bounded_and_on_one_line() {
        let letter = letter_of(format!("{}\n\0", "ü".repeat(100)));
        let reason = letter.metadata().get(keys::REASON_POISONED).unwrap();
        assert_eq!(reason, format!("{}  ", "ü".repeat(100)));

        let letter = letter_of("ü".repeat(1000));
        let reason = letter.metadata().get(keys::REASON_POISONED).unwrap();
        assert!(reason.len() <= REASON_BYTES_MAX && reason.ends_with("ü..."), "{reason}");
    }

    #[tokio::test]
    async fn a_letter_that_cannot_be_sent_names_both_errors() {
        let publisher = RecordingPublisher::default();
        publisher.refuse(None);
        let dead_letter = DeadLetter::new(publisher, "dead").unwrap();
        let error = dead_letter.send(Message::new("x"), "boom".into(), 1).await.unwrap_err();
        assert_eq!(error.failure().to_string(), "boom");
        assert_eq!(
            chain(&error),
            "dead-letter a message that failed with \"boom\": publish to \"dead\": the backend is unavailable, try again"
        );
    }

    #[test]
    fn the_empty_topic_is_refused() {
        assert!(DeadLetter::new(RecordingPublisher::default(), "").is_err());
    }
}
