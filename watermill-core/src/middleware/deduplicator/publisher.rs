//! [`DeduplicatingPublisher`]: publishes a message once.

use std::{collections::HashSet, fmt};

use async_trait::async_trait;

use super::{DeduplicationKey, Deduplicator, InProgress, Reservation, Reserved, unless_permanent};
use crate::{
    Message, Publisher,
    error::{Nack, NotAccepted, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

/// Drops messages that were published before, by the keys and the store of a [`Deduplicator`].
///
/// A repeat counts as accepted. A message is marked once the inner publisher has accepted it; what it
/// has not accepted may be published again. A call with nothing left does not reach it. While another
/// call is publishing a message of the same key, the whole call fails with
/// [`PublishErrorKind::Unavailable`] before anything is sent: try again. In a router the message that was
/// handled is nacked then, for the error is marked with [`Nack`].
///
/// Calls in progress together may pass each other, so this publisher does not claim
/// [`keeps_order`](PublisherCapabilities::keeps_order).
pub struct DeduplicatingPublisher<P> {
    inner: P,
    deduplicator: Deduplicator,
}

impl<P> DeduplicatingPublisher<P> {
    pub(super) fn new(inner: P, deduplicator: Deduplicator) -> Self {
        Self { inner, deduplicator }
    }

    /// The publisher behind it.
    pub fn get_ref(&self) -> &P {
        &self.inner
    }
}

/// A message that is to be published.
struct Fresh {
    /// In the caller's call.
    position: usize,
    message: Message,
    /// `None` for a message without a key.
    reservation: Option<Box<dyn Reservation>>,
}

impl<P: Publisher> DeduplicatingPublisher<P> {
    /// The messages that were not published before.
    async fn fresh(&self, topic: &str, messages: Vec<Message>) -> Result<Vec<Fresh>, PublishError> {
        let scope = format!("topic:{topic}");
        let mut seen = HashSet::new();
        let mut fresh = Vec::with_capacity(messages.len());
        for (position, message) in messages.into_iter().enumerate() {
            let Some(key) = self.deduplicator.key_of(&message) else {
                fresh.push(Fresh { position, message, reservation: None });
                continue;
            };
            if !seen.insert(key.clone()) {
                continue;
            }
            let unavailable = || PublishError::new(PublishErrorKind::Unavailable, topic);
            let reserved =
                self.deduplicator.store.reserve(DeduplicationKey { scope: &scope, key: &key }).await;
            match reserved.map_err(|error| {
                unavailable().because("deduplication").with_source(unless_permanent(error))
            })? {
                Reserved::New(reservation) => {
                    fresh.push(Fresh { position, message, reservation: Some(reservation) });
                }
                Reserved::Duplicate => tracing::debug!(message_id = %message.id(), key, "published before"),
                Reserved::InProgress => {
                    let detail = format!("{key:?} is being published by another call");
                    return Err(unavailable().because(detail).with_source(Nack::new(InProgress { key })));
                }
            }
        }
        Ok(fresh)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher> Publisher for DeduplicatingPublisher<P> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let fresh = self.fresh(topic, messages).await?;
        if fresh.is_empty() {
            return Ok(());
        }
        let mut sent = Vec::with_capacity(fresh.len());
        let mut pending = Vec::with_capacity(fresh.len());
        for Fresh { position, message, reservation } in fresh {
            sent.push(message);
            pending.push((position, reservation));
        }
        let result = self.inner.publish(topic, sent).await;
        let refused = match &result {
            Ok(()) => &[][..],
            Err(error) => match error.not_accepted() {
                NotAccepted::All => return result,
                NotAccepted::At(positions) => positions,
            },
        };
        let mut not_accepted = Vec::with_capacity(refused.len());
        for (at, (position, reservation)) in pending.into_iter().enumerate() {
            if refused.binary_search(&at).is_ok() {
                not_accepted.push(position);
            } else if let Some(reservation) = reservation {
                reservation.commit();
            }
        }
        // The caller counts the messages of its own call, repeats included.
        result.map_err(|error| error.with_not_accepted(not_accepted))
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities().keeps_order(false)
    }
}

impl<P: fmt::Debug> fmt::Debug for DeduplicatingPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeduplicatingPublisher").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        fixtures::RecordingPublisher,
        middleware::{DeduplicationStore, MemoryDeduplicationStore},
    };

    fn setup() -> (RecordingPublisher, MemoryDeduplicationStore, DeduplicatingPublisher<RecordingPublisher>) {
        let recording = RecordingPublisher::default();
        let store = MemoryDeduplicationStore::new(Duration::from_secs(60), 100);
        (recording.clone(), store.clone(), Deduplicator::new(store).publisher(recording))
    }

    fn messages(ids: &[&str]) -> Vec<Message> {
        ids.iter().map(|id| Message::with_id(*id, "x")).collect()
    }

    fn published(recording: &RecordingPublisher) -> Vec<Vec<String>> {
        let calls = recording.calls().into_iter();
        calls.map(|(_, messages)| messages.iter().map(|m| m.id().to_string()).collect()).collect()
    }

    #[tokio::test]
    async fn repeats_are_dropped_within_a_call_and_between_calls() {
        let (recording, _, publisher) = setup();
        publisher.publish("t", messages(&["1", "2", "1"])).await.unwrap();
        publisher.publish("t", messages(&["2", "3"])).await.unwrap();
        publisher.publish("other", messages(&["1"])).await.unwrap();
        assert_eq!(published(&recording), [vec!["1", "2"], vec!["3"], vec!["1"]]);
    }

    #[tokio::test]
    async fn a_call_with_nothing_left_does_not_reach_the_publisher() {
        let (recording, _, publisher) = setup();
        publisher.publish("t", messages(&["1"])).await.unwrap();
        publisher.publish("t", messages(&["1"])).await.unwrap();
        publisher.publish("t", vec![]).await.unwrap();
        assert_eq!(recording.calls().len(), 1);
    }

    #[tokio::test]
    async fn what_was_not_accepted_can_be_published_again() {
        let (recording, _, publisher) = setup();
        publisher.publish("t", messages(&["1"])).await.unwrap();
        recording.refuse(Some(vec![1]));
        let error = publisher.publish("t", messages(&["1", "2", "3"])).await.unwrap_err();
        assert_eq!(*error.not_accepted(), NotAccepted::At(vec![2]));
        recording.refuse(None);
        publisher.publish("t", messages(&["3", "4"])).await.unwrap_err();
        publisher.publish("t", messages(&["1", "2", "3", "4"])).await.unwrap();
        assert_eq!(published(&recording).last().unwrap(), &["3", "4"]);
    }

    #[tokio::test]
    async fn a_message_that_another_call_is_publishing_is_not_taken_for_accepted() {
        let (recording, store, publisher) = setup();
        let other = store.reserve(DeduplicationKey { scope: "topic:t", key: "2" }).await.unwrap();
        let error = publisher.publish("t", messages(&["1", "2"])).await.unwrap_err();
        assert!(error.is_retryable());
        assert!(recording.calls().is_empty());
        drop(other);
        publisher.publish("t", messages(&["1", "2"])).await.unwrap();
        assert_eq!(published(&recording), [vec!["1", "2"]]);
    }
}
