//! [`TopicStore`]: dead letters on a topic of any broker.

use std::{collections::BTreeMap, fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::{sync::Mutex, time::timeout};
use watermill_core::{
    Publisher, PublisherExt, Subscriber, Subscription, Window, delivery::Settlement, subscriber::Ordering,
};

use super::{Letter, LetterStore, StoreError, Take};

/// The dead letters of a topic, read by a consumer group of their own.
///
/// Opened, it takes in what the group has not settled; what comes later waits for the next time. A letter that is taken is
/// acked when what is published for it was accepted, so that a crash in between repeats it and loses nothing.
/// A broker that keeps positions and no single acks (Kafka) cannot leave some in the midst of others: there
/// [`close`](Self::close) publishes those that stay to the topic again, behind all others, before it acks them. Close
/// it, or whatever was taken may be there again.
pub struct TopicStore {
    topic: String,
    publisher: Arc<dyn Publisher>,
    target: Arc<dyn Publisher>,
    ordering: Ordering,
    state: Mutex<State>,
}

struct State {
    subscription: Subscription,
    /// By place: the order in which they came.
    letters: BTreeMap<i64, (Letter, Settlement)>,
    taken: bool,
}

/// For how long nothing more must have come for all to be there.
const IDLE: Duration = Duration::from_secs(2);
/// How long the first one is waited for: a group must be joined before anything comes.
const FIRST: Duration = Duration::from_secs(10);

impl TopicStore {
    /// The most letters that are taken in at once. Those beyond are seen when some of these are gone.
    pub const LETTERS_MAX: usize = 10_000;

    /// Takes in what `subscriber`, of a group that nobody else is in, has not settled of `topic`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the topic cannot be subscribed to.
    pub async fn open(
        subscriber: &dyn Subscriber,
        publisher: Arc<dyn Publisher>,
        topic: &str,
    ) -> Result<Self, StoreError> {
        let mut subscription = subscriber.subscribe(topic).await?;
        let all = NonZeroUsize::new(Self::LETTERS_MAX).unwrap_or(NonZeroUsize::MIN);
        subscription.set_window(Window::ordered(all).with_total(all));
        let mut letters = BTreeMap::new();
        let mut place = 0;
        while letters.len() < Self::LETTERS_MAX {
            let patience = if letters.is_empty() { FIRST } else { IDLE };
            let Ok(Some(delivery)) = timeout(patience, subscription.next()).await else { break };
            // An error on the stream is of a backend that goes on by itself.
            let Ok(delivery) = delivery else { continue };
            let published_at = delivery.info().published_at();
            let (message, settlement) = delivery.split();
            place += 1;
            letters.insert(place, (Letter::read(place, message.without_context(), published_at), settlement));
        }
        let ordering = subscriber.capabilities().ordering;
        let state = Mutex::new(State { subscription, letters, taken: false });
        let target = Arc::clone(&publisher);
        Ok(Self { topic: topic.to_owned(), publisher, target, ordering, state })
    }

    /// Publishes what is taken with another publisher than the topic's own: to the outbox, in a database.
    #[must_use]
    pub fn target(mut self, target: Arc<dyn Publisher>) -> Self {
        self.target = target;
        self
    }

    /// Gives back what was not taken, and records everything.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when that was not possible: what was taken may be there again.
    pub async fn close(self) -> Result<(), StoreError> {
        let State { subscription, letters, taken } = self.state.into_inner();
        let rewrite = taken && self.ordering != Ordering::None;
        for (letter, settlement) in letters.into_values() {
            if rewrite {
                self.publisher.publish_one(&self.topic, letter.message).await?;
                settlement.ack_confirmed().await?;
            } else {
                settlement.nack();
            }
        }
        subscription.close().await?;
        Ok(())
    }
}

#[async_trait]
impl LetterStore for TopicStore {
    async fn look(&self, after: Option<i64>, limit: usize) -> Result<Vec<Letter>, StoreError> {
        let state = self.state.lock().await;
        let behind = state.letters.range(after.map_or(0, |after| after.saturating_add(1))..);
        Ok(behind.take(limit).map(|(_, (letter, _))| letter.clone()).collect())
    }

    async fn newest(&self) -> Result<Option<i64>, StoreError> {
        Ok(self.state.lock().await.letters.keys().next_back().copied())
    }

    async fn take(&self, takes: Vec<Take>, topic: &str) -> Result<u64, StoreError> {
        let mut state = self.state.lock().await;
        let mut taken = 0;
        for Take { place, publish } in takes {
            let Some((letter, settlement)) = state.letters.remove(&place) else { continue };
            if let Some(message) = publish
                && let Err(error) = self.target.publish_one(topic, message).await
            {
                state.letters.insert(place, (letter, settlement));
                return Err(error.into());
            }
            state.taken = true;
            match self.ordering {
                Ordering::None => settlement.ack_confirmed().await?,
                // A position passes it when those before it are settled too, which is when this is closed.
                _ => settlement.ack(),
            }
            taken += 1;
        }
        Ok(taken)
    }
}

impl fmt::Debug for TopicStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicStore").field("topic", &self.topic).finish_non_exhaustive()
    }
}
