//! [`DelayPublisher`]: keeps delays for a publisher that cannot.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::future;

use crate::{
    Message, Publisher,
    error::{NotAccepted, PublishError, PublishErrorKind},
    metadata_keys,
    publisher::PublisherCapabilities,
};

/// A publisher that keeps delays whatever its backend is: what is due later waits in a queue beside it.
///
/// A message that [asks for a delay](Message::asks_for_delay), or whose metadata say that it is due later (a dead
/// letter of [`DelayOnError`](crate::middleware::DelayOnError), what Go has written), goes to the queue; when it is
/// due, a [`DelayRelay`](crate::components::DelayRelay) takes it to its topic. Everything else goes straight there,
/// and so does everything where the wrapped publisher [delays](PublisherCapabilities::delays) by itself. `Ok` means
/// that a message is as safe in the queue as in its topic.
///
/// Order is that of the times when messages are due: a delayed message is behind what was published to its topic
/// until then, of its key too. A time that cannot be read delays nothing.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{Message, Publisher, delay::DelayPublisher, error::PublishError};
///
/// /// `queue` publishes to a backend that delays, an SQL queue for instance.
/// async fn remind(kafka: impl Publisher, queue: impl Publisher) -> Result<(), PublishError> {
///     let publisher = DelayPublisher::new(kafka, queue, "delayed");
///     publisher.publish("reminders", vec![Message::new("pay").delay_for(Duration::from_millis(90_500))]).await
/// }
/// ```
pub struct DelayPublisher<P, Q> {
    inner: P,
    queue: Q,
    queue_topic: String,
    default: Option<Arc<DefaultDelay>>,
    required: bool,
}

type DefaultDelay = dyn Fn(&Message) -> Duration + Send + Sync;

impl<P: Publisher, Q: Publisher> DelayPublisher<P, Q> {
    /// What is due later waits in `queue_topic` of `queue`, which must be able to
    /// [delay](PublisherCapabilities::delays): otherwise it refuses what asks for a delay.
    pub fn new(inner: P, queue: Q, queue_topic: impl Into<String>) -> Self {
        Self { inner, queue, queue_topic: queue_topic.into(), default: None, required: false }
    }

    /// Delays messages that do not say when they are due.
    #[must_use]
    pub fn default_delay(mut self, delay: impl Fn(&Message) -> Duration + Send + Sync + 'static) -> Self {
        self.default = Some(Arc::new(delay));
        self
    }

    /// Refuses messages that do not say when they are due, as Go's publisher does unless told otherwise. By default
    /// they are published at once.
    #[must_use]
    pub fn require_delay(mut self) -> Self {
        self.required = true;
        self
    }

    /// Sorts the messages of a call, before anything is sent.
    fn sort(&self, topic: &str, messages: Vec<Message>) -> Result<Sorted, PublishError> {
        let mut sorted = Sorted::default();
        for (at, message) in messages.into_iter().enumerate() {
            let message = self.with_default(message);
            match When::of(&message) {
                When::Unsaid if self.required => return Err(unsaid(topic, &message)),
                When::Unsaid | When::Now => sorted.direct.push(at, message),
                When::Later if self.inner.capabilities().delays => sorted.direct.push(at, asking(message)),
                When::Later => {
                    sorted
                        .queued
                        .push(at, asking(message).with_metadata(metadata_keys::DELAYED_TOPIC, topic));
                }
            }
        }
        Ok(sorted)
    }

    fn with_default(&self, message: Message) -> Message {
        match &self.default {
            Some(delay) if matches!(When::of(&message), When::Unsaid) => {
                let delay = delay(&message);
                message.delay_for(delay)
            }
            _ => message,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher, Q: Publisher> Publisher for DelayPublisher<P, Q> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Sorted { direct, queued } = self.sort(topic, messages)?;
        if queued.messages.is_empty() {
            return self.inner.publish(topic, direct.messages).await;
        }
        if direct.messages.is_empty() {
            return self.queue.publish(&self.queue_topic, queued.messages).await;
        }
        // Side by side, so that the wrapped publisher sees calls in the order in which they are made.
        let (sent, waits) = future::join(
            self.inner.publish(topic, direct.messages),
            self.queue.publish(&self.queue_topic, queued.messages),
        )
        .await;
        both(sent.map_err(|error| (error, direct.places)), waits.map_err(|error| (error, queued.places)))
    }

    fn take_back(&self) {
        self.inner.take_back();
        self.queue.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        let (inner, queue) = future::join(self.inner.close(), self.queue.close()).await;
        inner.and(queue)
    }

    fn capabilities(&self) -> PublisherCapabilities {
        let (inner, queue) = (self.inner.capabilities(), self.queue.capabilities());
        PublisherCapabilities::new(inner.backend)
            .keeps_order(inner.keeps_order)
            .atomic(inner.atomic && inner.delays)
            .delays(inner.delays || queue.delays)
            .commits_with_ack(inner.commits_with_ack && (inner.delays || queue.commits_with_ack))
    }
}

/// What a message says of when it is due.
enum When {
    Unsaid,
    Now,
    Later,
}

impl When {
    fn of(message: &Message) -> Self {
        if message.asks_for_delay() {
            return Self::Later;
        }
        match message.delayed_until() {
            // Times are written in whole milliseconds, rounded up.
            Ok(Some(due)) if due > SystemTime::now() + Duration::from_millis(1) => Self::Later,
            Ok(Some(_)) => Self::Now,
            Ok(None) | Err(_) => Self::Unsaid,
        }
    }
}

/// The messages of a call by where they go.
#[derive(Default)]
struct Sorted {
    direct: Part,
    queued: Part,
}

#[derive(Default)]
struct Part {
    messages: Vec<Message>,
    /// Where they stood in the call.
    places: Vec<usize>,
}

impl Part {
    fn push(&mut self, place: usize, message: Message) {
        self.messages.push(message);
        self.places.push(place);
    }
}

/// The result of a call that was made in two, of which each failure comes with the places of its messages.
fn both(
    one: Result<(), (PublishError, Vec<usize>)>,
    other: Result<(), (PublishError, Vec<usize>)>,
) -> Result<(), PublishError> {
    let failed: Vec<_> = [one, other].into_iter().filter_map(Result::err).collect();
    let mut places: Vec<usize> = failed.iter().flat_map(|(error, places)| refused(error, places)).collect();
    places.sort_unstable();
    match failed.into_iter().next() {
        Some((error, _)) => Err(error.with_not_accepted(places)),
        None => Ok(()),
    }
}

fn refused(error: &PublishError, places: &[usize]) -> Vec<usize> {
    match error.not_accepted() {
        NotAccepted::All => places.to_vec(),
        NotAccepted::At(positions) => positions.iter().filter_map(|at| places.get(*at).copied()).collect(),
    }
}

/// The message, with what its metadata say asked for.
fn asking(mut message: Message) -> Message {
    message.ask_for_written_delay();
    message
}

fn unsaid(topic: &str, message: &Message) -> PublishError {
    let id = message.id().as_str();
    PublishError::new(PublishErrorKind::Message, topic)
        .because(format!("message {id:?} does not say when it is due; call `delay_for` on it"))
}

impl<P: fmt::Debug, Q: fmt::Debug> fmt::Debug for DelayPublisher<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayPublisher")
            .field("inner", &self.inner)
            .field("queue", &self.queue)
            .field("queue_topic", &self.queue_topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::RecordingPublisher;

    const HOUR: Duration = Duration::from_hours(1);

    struct Fixture {
        inner: RecordingPublisher,
        queue: RecordingPublisher,
    }

    impl Fixture {
        fn new() -> (Self, DelayPublisher<RecordingPublisher, RecordingPublisher>) {
            let (inner, queue) = (RecordingPublisher::default(), RecordingPublisher::default());
            let publisher = DelayPublisher::new(inner.clone(), queue.clone(), "delayed");
            (Self { inner, queue }, publisher)
        }
    }

    /// Nine cases of Go's delay publisher, as far as they are about the message: said or not, a default or not,
    /// allowed without or not.
    #[tokio::test]
    async fn what_a_message_says_comes_before_the_default_and_nothing_said_is_refused_only_where_that_is_asked_for()
     {
        let plain = || Message::with_id("1", "x");
        let said = || plain().delay_for(HOUR);
        let minute = |_: &Message| Duration::from_secs(60);
        for (message, default, required, expected) in [
            (said(), false, false, Ok(Some("1h0m0s"))),
            (said(), true, false, Ok(Some("1h0m0s"))),
            (said(), false, true, Ok(Some("1h0m0s"))),
            (said(), true, true, Ok(Some("1h0m0s"))),
            (plain(), true, false, Ok(Some("1m0s"))),
            (plain(), true, true, Ok(Some("1m0s"))),
            (plain(), false, false, Ok(None)),
            (plain(), false, true, Err(PublishErrorKind::Message)),
            (plain().delay_for(Duration::ZERO), true, true, Ok(None)),
        ] {
            let (fixture, mut publisher) = Fixture::new();
            if default {
                publisher = publisher.default_delay(minute);
            }
            if required {
                publisher = publisher.require_delay();
            }
            let result = publisher.publish("out", vec![message]).await;
            let queued = fixture.queue.calls().pop().map(|(topic, mut messages)| {
                assert_eq!(topic, "delayed");
                let message = messages.remove(0);
                assert!(message.asks_for_delay(), "a queue that could not wait would refuse it");
                assert_eq!(message.metadata().get("_watermill_delayed_topic"), Some("out"));
                message.metadata().get("_watermill_delayed_for").unwrap().to_owned()
            });
            match expected {
                Ok(delay) => {
                    result.unwrap();
                    assert_eq!(queued.as_deref(), delay);
                    assert_eq!(fixture.inner.calls().is_empty(), delay.is_some());
                }
                Err(kind) => {
                    assert_eq!(result.unwrap_err().kind(), kind);
                    assert!(fixture.inner.calls().is_empty() && fixture.queue.calls().is_empty());
                }
            }
        }
    }

    #[tokio::test]
    async fn what_metadata_say_counts_where_it_is_still_to_come() {
        let (fixture, publisher) = Fixture::new();
        let written = |until: &str| Message::new("x").with_metadata("_watermill_delayed_until", until);
        let calls = vec![written("2999-01-01T00:00:00Z"), written("2001-01-01T00:00:00Z"), written("soon")];
        publisher.publish("out", calls.clone()).await.unwrap();
        let queued = fixture.queue.single().1;
        assert_eq!(
            queued.metadata().get("_watermill_delayed_until"),
            Some("2999-01-01T00:00:00Z"),
            "unchanged"
        );
        assert_eq!(fixture.inner.calls(), [("out".to_owned(), calls[1..].to_vec())]);
    }

    #[tokio::test]
    async fn what_was_not_accepted_is_named_by_its_place_in_the_call() {
        let (fixture, publisher) = Fixture::new();
        let later = || Message::new("later").delay_for(HOUR);
        let call = || vec![later(), Message::new("now"), later(), Message::new("now")];
        fixture.inner.refuse(Some(vec![1]));
        let error = publisher.publish("out", call()).await.unwrap_err();
        assert_eq!(error.not_accepted(), &NotAccepted::At(vec![3]));

        fixture.inner.refuse(Some(vec![0]));
        fixture.queue.refuse(None);
        let error = publisher.publish("out", call()).await.unwrap_err();
        assert_eq!(error.not_accepted(), &NotAccepted::At(vec![0, 1, 2]));
    }
}
