//! Dead letters, to look at and to work with: listed by what has failed, shown, sent again, archived, deleted.
//!
//! [`DeadLetters`] works on a [`LetterStore`]: a table, as `watermill-sql`'s `SqlPool` has it, or with [`TopicStore`] a topic of any
//! broker.
//!
//! ```
//! use std::sync::Arc;
//!
//! use watermill_core::{Message, PublisherExt, Subscriber, memory::MemoryBroker};
//! use watermill_forwarder::{
//!     Envelope,
//!     dead_letters::{DeadLetters, Filter, Pace, TopicStore},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let broker = MemoryBroker::default();
//! let letter = Envelope::new("orders", Message::new("one")).wrap().with_metadata("reason_poisoned", "no");
//! let group = broker.subscriber().in_group("operator")?;
//! # group.initialize("dead").await?;
//! broker.publisher().publish_one("dead", letter).await?;
//!
//! let store = TopicStore::open(&*group, Arc::new(broker.publisher()), "dead").await?;
//! let letters = DeadLetters::new(store, "forwarder_topic");
//! for group in letters.groups(&Filter::default()).await?.groups {
//!     println!("{} for {:?}: {}", group.count, group.destination, group.reason);
//! }
//! let again = letters.redrive(&Filter::default().destination("orders"), Pace::default()).await?;
//! assert_eq!(again.done, 1);
//! letters.into_store().close().await?;
//! # Ok(())
//! # }
//! ```

mod group;
mod letter;
mod store;
mod topic;

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::time::{Instant, sleep_until};

pub use group::{Filter, Group};
pub use letter::{FIRST_FAILED_AT, Letter, REDRIVEN};
pub use store::{LetterStore, StoreError, Take};
pub use topic::TopicStore;

/// The dead letters of a store.
pub struct DeadLetters<S> {
    store: S,
    forwarder_topic: String,
}

/// How an action on dead letters is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Only says what would be done.
    pub dry_run: bool,
    /// The most letters a second. Default: as many as the store takes.
    pub per_second: Option<u32>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Groups {
    /// The largest group first.
    pub groups: Vec<Group>,
    /// How many letters are in no group, for there are more than [`DeadLetters::GROUPS_MAX`] of them.
    pub others: u64,
}

/// What an action has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done {
    /// Letters that were meant.
    pub matched: u64,
    /// Letters of which it was done: none in a dry run, and none of what somebody else has taken meanwhile.
    pub done: u64,
    /// Of those that were meant: those that had been sent again before, and have failed again.
    pub failed_again: u64,
    /// Of those that were meant: those with a key. Later messages of the key have overtaken them.
    pub overtaken: u64,
}

/// The most letters of one transaction.
const BATCH: usize = 100;

impl<S: LetterStore> DeadLetters<S> {
    /// The most groups that are told apart.
    pub const GROUPS_MAX: usize = 1_000;

    /// Works on a store. What is sent again goes to `forwarder_topic`, where a forwarder reads it as it was.
    pub fn new(store: S, forwarder_topic: impl Into<String>) -> Self {
        Self { store, forwarder_topic: forwarder_topic.into() }
    }

    /// The store.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Letters by destination, kind and fingerprint of the reason.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read.
    pub async fn groups(&self, filter: &Filter) -> Result<Groups, StoreError> {
        let mut found: BTreeMap<_, Group> = BTreeMap::new();
        let mut others = 0;
        self.each(filter, async |letter| {
            let full = found.len() >= Self::GROUPS_MAX;
            match found.get_mut(&letter.group_key()) {
                Some(group) => group.add(letter),
                None if full => others += 1,
                None => {
                    found.insert(letter.group_key(), Group::of(letter));
                }
            }
            Ok(())
        })
        .await?;
        let mut groups: Vec<Group> = found.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(Groups { groups, others })
    }

    /// Letters one by one, the oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read.
    pub async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<Letter>, StoreError> {
        let (mut letters, mut after) = (Vec::new(), None);
        while letters.len() < limit {
            let page = self.store.look(after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            letters.extend(page.into_iter().filter(|letter| filter.matches(letter)));
        }
        letters.truncate(limit);
        Ok(letters)
    }

    /// Sends letters again: each goes back to the forwarder topic, as it was, with its id and its key, and is no
    /// letter any more. How often that was done is in its metadata, so that a second failure says so.
    ///
    /// A message that is sent again comes behind what was sent meanwhile, of its key too.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was sent again until then stays so.
    pub async fn redrive(&self, filter: &Filter, pace: Pace) -> Result<Done, StoreError> {
        self.act(filter, pace, |letter| Some(letter.again()), &self.forwarder_topic).await
    }

    /// Moves letters to another topic of the store, unchanged.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was moved until then stays so.
    pub async fn archive(&self, filter: &Filter, pace: Pace, topic: &str) -> Result<Done, StoreError> {
        self.act(filter, pace, |letter| Some(letter.message.clone()), topic).await
    }

    /// Deletes letters.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was deleted until then stays so.
    pub async fn delete(&self, filter: &Filter, pace: Pace) -> Result<Done, StoreError> {
        self.act(filter, pace, |_| None, &self.forwarder_topic).await
    }

    async fn act(
        &self,
        filter: &Filter,
        pace: Pace,
        publish: impl Fn(&Letter) -> Option<watermill_core::Message>,
        topic: &str,
    ) -> Result<Done, StoreError> {
        let mut done = Done::default();
        let batch = pace.per_second.map_or(BATCH, |rate| BATCH.min(rate.max(1) as usize));
        // What comes while this runs, such as what fails again, is not for this run.
        let newest = self.store.newest().await?;
        let (mut after, mut next) = (None, Instant::now());
        loop {
            let page = self.store.look(after, batch).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            let is_over = newest.is_none_or(|newest| last.place >= newest);
            let meant = page.iter().filter(|letter| newest.is_some_and(|newest| letter.place <= newest));
            let meant: Vec<&Letter> = meant.filter(|letter| filter.matches(letter)).collect();
            done.matched += meant.len() as u64;
            done.failed_again += meant.iter().filter(|letter| letter.redriven > 0).count() as u64;
            done.overtaken += meant.iter().filter(|letter| letter.message.key().is_some()).count() as u64;
            if !pace.dry_run && !meant.is_empty() {
                sleep_until(next).await;
                let takes: Vec<Take> = meant
                    .iter()
                    .map(|letter| Take { place: letter.place, publish: publish(letter) })
                    .collect();
                let count = takes.len();
                done.done += self.store.take(takes, topic).await?;
                if let Some(rate) = pace.per_second {
                    next = Instant::now() + Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
                }
            }
            if is_over {
                break;
            }
        }
        Ok(done)
    }

    async fn each(
        &self,
        filter: &Filter,
        mut of: impl AsyncFnMut(Letter) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.store.look(after, BATCH).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.place);
            for letter in page.into_iter().filter(|letter| filter.matches(letter)) {
                of(letter).await?;
            }
        }
    }
}

impl<S> fmt::Debug for DeadLetters<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("forwarder_topic", &self.forwarder_topic).finish_non_exhaustive()
    }
}
