//! [`Keys`]: the ordering keys of the calls that are on their way, and which of them are held back.
//!
//! When a message is not accepted, the client pauses its ordering key: what is behind it is not accepted
//! either. Here is decided when a key goes on: not before every call that was on its way with it then has
//! ended, so that whoever made these calls one behind the other has seen where it broke.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Shared by the calls of one client.
#[derive(Clone, Default)]
pub(super) struct Keys(Arc<Mutex<HashMap<Arc<str>, Key>>>);

/// A key with calls on their way, or one that is paused in the client.
#[derive(Debug, Default)]
struct Key {
    calls: usize,
    /// One of these calls had a message that was not accepted.
    failed: bool,
    /// The client has paused it, and the next call resumes it.
    paused: bool,
}

/// The keys of one call. Dropped, the call has ended.
pub(super) struct Call {
    keys: Keys,
    /// Each once, and whether this call may use it.
    own: HashMap<Arc<str>, bool>,
}

impl Keys {
    pub(super) fn begin(&self) -> Call {
        Call { keys: self.clone(), own: HashMap::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Whether a message of this key may be handed to the client, whose pause `resume` ends.
    pub(super) fn enter(&mut self, key: &str, resume: impl FnOnce()) -> bool {
        if let Some(goes) = self.own.get(key) {
            return *goes;
        }
        let key: Arc<str> = key.into();
        let mut keys = self.keys.lock();
        let entry = keys.entry(key.clone()).or_default();
        let goes = !entry.failed;
        if goes {
            entry.calls += 1;
            if std::mem::take(&mut entry.paused) {
                resume();
            }
        }
        drop(keys);
        self.own.insert(key, goes);
        goes
    }

    /// A message of this key was not accepted.
    pub(super) fn failed(&mut self, key: &str) {
        if let Some(entry) = self.keys.lock().get_mut(key) {
            entry.failed = true;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut keys = self.keys.lock();
        for (key, _) in self.own.drain().filter(|(_, goes)| *goes) {
            let Entry::Occupied(mut entry) = keys.entry(key) else { continue };
            let key = entry.get_mut();
            key.calls -= 1;
            if key.calls > 0 {
                continue;
            }
            if std::mem::take(&mut key.failed) {
                // It is resumed no sooner than it is needed: the client may not have paused it yet.
                key.paused = true;
            } else {
                entry.remove();
            }
        }
    }
}

pub(super) fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(call: &mut Call, key: &str) -> (bool, bool) {
        let mut resumed = false;
        let goes = call.enter(key, || resumed = true);
        (goes, resumed)
    }

    #[test]
    fn a_key_that_failed_goes_on_when_every_call_that_was_on_its_way_has_ended() {
        let keys = Keys::default();
        let (mut first, mut second) = (keys.begin(), keys.begin());
        assert_eq!((enter(&mut first, "a"), enter(&mut second, "a")), ((true, false), (true, false)));
        first.failed("a");
        drop(first);

        let mut late = keys.begin();
        assert_eq!(enter(&mut late, "a"), (false, false), "the second is still on its way");
        assert_eq!(enter(&mut late, "b"), (true, false), "other keys are not touched");
        drop(second);
        assert_eq!(enter(&mut late, "a"), (false, false), "not in the middle of a call");
        drop(late);

        let mut again = keys.begin();
        assert_eq!(enter(&mut again, "a"), (true, true), "it is resumed");
        assert_eq!(enter(&mut again, "a"), (true, false), "once");
    }

    #[test]
    fn what_has_ended_well_is_forgotten() {
        let keys = Keys::default();
        let mut call = keys.begin();
        (0..100).for_each(|n| assert_eq!(enter(&mut call, &n.to_string()), (true, false)));
        assert_eq!(keys.lock().len(), 100);
        drop(call);
        assert!(keys.lock().is_empty());
    }
}
