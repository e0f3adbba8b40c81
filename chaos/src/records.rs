//! [`Records`]: what writers, the consumer and the breaker of things have seen, each for itself.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// Milliseconds since 1970, by this machine's clock. The broker goes by the same.
pub(crate) type Moment = i64;

pub(crate) fn now() -> Moment {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(Moment::MAX)
}

/// What a message says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) key: i64,
    pub(crate) version: i64,
}

/// A record of the topic, as a reader of what is committed finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) event: Event,
    /// When the broker has stored it.
    pub(crate) at: Moment,
}

/// A fault that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) fault: Fault,
    pub(crate) from: Moment,
    /// Since when nothing is broken any more.
    pub(crate) to: Moment,
}

/// What writers did, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) transactions: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// What is seen while it runs.
#[derive(Debug, Default)]
pub(crate) struct Records {
    committed: Mutex<HashMap<String, Moment>>,
    rolled_back: Mutex<HashSet<String>>,
    seen: Mutex<HashMap<String, Moment>>,
    /// When the latest of those that were seen was committed.
    newest_seen: AtomicI64,
    pub(crate) counts: Counts,
}

impl Records {
    /// The commit has returned.
    pub(crate) fn committed(&self, ids: Vec<String>) {
        let now = now();
        lock(&self.committed).extend(ids.into_iter().map(|id| (id, now)));
    }

    /// The rollback has returned, or it was never told to commit.
    pub(crate) fn rolled_back(&self, ids: Vec<String>) {
        lock(&self.rolled_back).extend(ids);
    }

    /// The consumer has it.
    pub(crate) fn seen(&self, id: &str) {
        let now = now();
        lock(&self.seen).entry(id.to_owned()).or_insert(now);
        if let Some(committed) = lock(&self.committed).get(id) {
            self.newest_seen.fetch_max(*committed, Ordering::Relaxed);
        }
    }

    pub(crate) fn seen_count(&self) -> usize {
        lock(&self.seen).len()
    }

    pub(crate) fn committed_count(&self) -> usize {
        lock(&self.committed).len()
    }

    pub(crate) fn newest_seen(&self) -> Moment {
        self.newest_seen.load(Ordering::Relaxed)
    }

    pub(crate) fn has_seen(&self, id: &str) -> bool {
        lock(&self.seen).contains_key(id)
    }

    pub(crate) fn all_committed(&self) -> HashMap<String, Moment> {
        lock(&self.committed).clone()
    }

    pub(crate) fn all_rolled_back(&self) -> HashSet<String> {
        lock(&self.rolled_back).clone()
    }

    pub(crate) fn all_seen(&self) -> HashMap<String, Moment> {
        lock(&self.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
