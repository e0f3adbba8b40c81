//! [`MemoryDeduplicationStore`]: marks in this process.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{DeduplicationKey, DeduplicationStore, Reservation, Reserved};
use crate::error::BoxError;

/// Remembers keys in memory for a time. Clones share their memory; other processes do not, and a
/// restart forgets everything.
#[derive(Clone)]
pub struct MemoryDeduplicationStore(Arc<Shared>);

struct Shared {
    window: Duration,
    capacity: usize,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    states: HashMap<Arc<str>, State>,
    /// The keys that are done, the oldest first, with the time when each is forgotten.
    done: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Clone, Copy)]
enum State {
    InProgress,
    Done,
}

impl MemoryDeduplicationStore {
    /// Remembers a key for `window` after it was handled. Beyond `capacity` remembered keys (zero
    /// counts as one) the oldest are forgotten early: their repeats would be handled again. Keys in
    /// progress are not counted, they are as many as messages are handled at once.
    pub fn new(window: Duration, capacity: usize) -> Self {
        Self(Arc::new(Shared { window, capacity: capacity.max(1), marks: Mutex::default() }))
    }

    /// How many keys it holds, those that could be forgotten at its next use included.
    pub fn len(&self) -> usize {
        self.0.lock().states.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl DeduplicationStore for MemoryDeduplicationStore {
    async fn reserve(&self, key: DeduplicationKey<'_>) -> Result<Reserved, BoxError> {
        // With the length in front no two pairs make the same text.
        let key: Arc<str> = format!("{}:{}{}", key.scope.len(), key.scope, key.key).into();
        let mut marks = self.0.lock();
        marks.forget(Instant::now(), self.0.capacity);
        Ok(match marks.states.get(&key) {
            Some(State::Done) => Reserved::Duplicate,
            Some(State::InProgress) => Reserved::InProgress,
            None => {
                marks.states.insert(key.clone(), State::InProgress);
                Reserved::New(Box::new(Held { shared: self.0.clone(), key, committed: false }))
            }
        })
    }
}

impl fmt::Debug for MemoryDeduplicationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDeduplicationStore")
            .field("window", &self.0.window)
            .field("capacity", &self.0.capacity)
            .field("len", &self.len())
            .finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// Forgets what is too old or too much. There is no task for it: what is not used does not grow.
    fn forget(&mut self, now: Instant, capacity: usize) {
        while let Some((due, _)) = self.done.front()
            && (*due <= now || self.done.len() > capacity)
        {
            if let Some((_, key)) = self.done.pop_front() {
                self.states.remove(&key);
            }
        }
    }
}

struct Held {
    shared: Arc<Shared>,
    key: Arc<str>,
    committed: bool,
}

impl Reservation for Held {
    fn commit(mut self: Box<Self>) {
        self.committed = true;
        let now = Instant::now();
        // A window without an end lasts as long as the capacity lets it.
        let due = now.checked_add(self.shared.window).unwrap_or_else(|| now + Duration::from_hours(24 * 365));
        let mut marks = self.shared.lock();
        marks.states.insert(self.key.clone(), State::Done);
        marks.done.push_back((due, self.key.clone()));
        marks.forget(now, self.shared.capacity);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.committed {
            self.shared.lock().states.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    async fn reserve(store: &MemoryDeduplicationStore, key: &str) -> Reserved {
        store.reserve(DeduplicationKey { scope: "s", key }).await.unwrap()
    }

    async fn commit(store: &MemoryDeduplicationStore, key: &str) {
        let Reserved::New(reservation) = reserve(store, key).await else { panic!("{key} is not new") };
        reservation.commit();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_the_window_and_then_forgotten() {
        let store = MemoryDeduplicationStore::new(WINDOW, 10);
        commit(&store, "a").await;
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert!(matches!(reserve(&store, "a").await, Reserved::Duplicate));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(reserve(&store, "a").await, Reserved::New(_)));
        assert!(store.is_empty(), "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_capacity_the_oldest_key_is_forgotten() {
        let store = MemoryDeduplicationStore::new(Duration::MAX, 2);
        for key in ["a", "b", "c"] {
            commit(&store, key).await;
        }
        assert_eq!(store.len(), 2);
        assert!(matches!(reserve(&store, "a").await, Reserved::New(_)));
        assert!(matches!(reserve(&store, "b").await, Reserved::Duplicate));
    }

    #[tokio::test]
    async fn scopes_and_keys_do_not_run_into_each_other() {
        let store = MemoryDeduplicationStore::new(WINDOW, 10);
        let first = store.reserve(DeduplicationKey { scope: "ab", key: "c" }).await.unwrap();
        let second = store.reserve(DeduplicationKey { scope: "a", key: "bc" }).await.unwrap();
        assert!(matches!((first, second), (Reserved::New(_), Reserved::New(_))));
    }
}
