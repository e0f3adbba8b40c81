//! [`Cache`]: schemas by their numbers, each asked for once, however many wait for it.

use std::{fmt, sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use watermill_core::cqrs::Schema;

use crate::{RegistryError, RegistryErrorKind, bounded::Bounded};

/// For how long nobody asks again for a number that the registry did not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

pub(crate) type Found = Result<Arc<Schema>, RegistryError>;
type Fetching = BoxFuture<'static, Found>;

/// The schemas that are known, that are asked for, and that were not there a moment ago.
pub(crate) struct Cache {
    entries: Mutex<Bounded<Entry>>,
}

enum Entry {
    Known(Arc<Schema>),
    Unknown {
        until: Instant,
        error: RegistryError,
    },
    /// Those who wait keep it alive: when all have gone, nobody asks any more.
    Asked(WeakShared<Fetching>),
}

impl Cache {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: Mutex::new(Bounded::new(max)) }
    }

    /// The schema, or who asks for it already, or else what `fetch` begins. What that finds is [kept](Self::keep) by it.
    pub(crate) fn get(&self, id: u32, fetch: impl FnOnce() -> Fetching) -> Result<Found, Shared<Fetching>> {
        let mut entries = self.entries.lock();
        match entries.get(id) {
            Some(Entry::Known(schema)) => return Ok(Ok(schema.clone())),
            Some(Entry::Unknown { until, error }) if *until > Instant::now() => {
                return Ok(Err(error.clone()));
            }
            Some(Entry::Asked(asked)) => {
                if let Some(asked) = asked.upgrade() {
                    return Err(asked);
                }
            }
            _ => {}
        }
        let asked = fetch().shared();
        // It has not been polled, so it has not ended.
        if let Some(weak) = asked.downgrade() {
            entries.insert(id, Entry::Asked(weak));
        }
        Err(asked)
    }

    /// Keeps what was found; of errors, for a moment, that there is no such schema.
    pub(crate) fn keep(&self, id: u32, found: &Found) {
        let entry = match found {
            Ok(schema) => Entry::Known(schema.clone()),
            Err(error) if error.kind() == RegistryErrorKind::NotFound => {
                Entry::Unknown { until: Instant::now() + UNKNOWN_FOR, error: error.clone() }
            }
            Err(_) => return,
        };
        self.entries.lock().insert(id, entry);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Asks the cache, which finds this when it fetches.
    async fn get(cache: &Arc<Cache>, id: u32, fetched: &Arc<AtomicU32>, found: Found) -> Found {
        let fetch = || {
            let (cache, fetched) = (cache.clone(), fetched.clone());
            async move {
                fetched.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                cache.keep(id, &found);
                found
            }
            .boxed()
        };
        match cache.get(id, fetch) {
            Ok(found) => found,
            Err(asked) => asked.await,
        }
    }

    fn schema() -> Found {
        Ok(Arc::new(Schema::json("{}")))
    }

    fn error(kind: RegistryErrorKind) -> Found {
        Err(RegistryError::new(kind, "fetch", "it is not to be had"))
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_schema_is_believed_for_a_second() {
        let (cache, fetched) = (Arc::new(Cache::new(9)), Arc::default());
        let missing = || error(RegistryErrorKind::NotFound);
        assert!(get(&cache, 1, &fetched, missing()).await.is_err());
        assert!(get(&cache, 1, &fetched, schema()).await.is_err());
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
        tokio::time::advance(UNKNOWN_FOR).await;
        assert!(get(&cache, 1, &fetched, schema()).await.is_ok());
        tokio::time::advance(UNKNOWN_FOR * 1_000_000).await;
        assert!(get(&cache, 1, &fetched, missing()).await.is_ok());
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn that_the_registry_is_away_is_not_kept() {
        let (cache, fetched) = (Arc::new(Cache::new(9)), Arc::default());
        assert!(get(&cache, 1, &fetched, error(RegistryErrorKind::Unavailable)).await.is_err());
        assert!(get(&cache, 1, &fetched, schema()).await.is_ok());
    }

    #[tokio::test]
    async fn who_was_given_up_by_all_is_asked_again() {
        let (cache, fetched) = (Arc::new(Cache::new(9)), Arc::default());
        assert!(get(&cache, 1, &fetched, schema()).now_or_never().is_none());
        assert!(get(&cache, 1, &fetched, schema()).await.is_ok());
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let (cache, fetched) = (Arc::new(Cache::new(2)), Arc::default());
        for id in [1, 2, 3, 3, 1] {
            assert!(get(&cache, id, &fetched, schema()).await.is_ok());
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 4);
    }
}
