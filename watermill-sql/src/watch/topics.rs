//! [`Topics`]: what is watched for whom.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{Wanted, dialect::Watched};
use crate::wake;

/// The seats of one watch.
#[derive(Debug, Default)]
pub(super) struct Topics {
    seats: Mutex<(u64, HashMap<u64, Arc<Seated>>)>,
    /// Somebody has come to rest.
    pub(super) at_rest: Notify,
}

/// A subscription that is watched for.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) wanted: Wanted,
    /// Whether it waits to be woken; one that is busy sees for itself.
    rests: AtomicBool,
    /// Whether its topic was looked at, so that nothing can happen there unnoticed.
    pub(super) is_watched: AtomicBool,
    /// Whether it was told that something keeps it from being watched for.
    is_troubled: AtomicBool,
}

/// A subscription's place, which it gives up by dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    seated: Arc<Seated>,
    topics: Arc<Topics>,
    /// The last seat ends the watch.
    _watch: Arc<dyn Any + Send + Sync>,
}

impl Topics {
    pub(super) fn sit(self: &Arc<Self>, wanted: Wanted, watch: Arc<dyn Any + Send + Sync>) -> Seat {
        let [rests, is_watched, is_troubled] = [(); 3].map(|()| AtomicBool::new(false));
        let seated = Arc::new(Seated { wanted, rests, is_watched, is_troubled });
        let mut seats = self.seats();
        seats.0 += 1;
        let number = seats.0;
        seats.1.insert(number, seated.clone());
        Seat { number, seated, topics: self.clone(), _watch: watch }
    }

    pub(super) fn all(&self) -> Vec<Arc<Seated>> {
        self.seats().1.values().cloned().collect()
    }

    /// Nobody is watched for any more, until the next look. They ask by themselves, at once, and say why.
    pub(super) fn give_up(&self, why: &str) {
        for seated in self.all() {
            seated.set_trouble(Some(why));
            if seated.is_watched.swap(false, Ordering::Relaxed) {
                wake::wake(&seated.wanted.topic);
            }
        }
    }

    /// Nothing keeps anybody from being watched for.
    pub(super) fn recover(&self) {
        for seated in self.all() {
            seated.set_trouble(None);
        }
    }

    fn seats(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Seated>>)> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seated {
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    pub(super) fn watched(&self) -> &Watched {
        &self.wanted.watched
    }

    /// What keeps it from being watched for, if anything does.
    pub(super) fn set_trouble(&self, why: Option<&str>) {
        if self.is_troubled.swap(why.is_some(), Ordering::Relaxed) || why.is_some() {
            (self.wanted.trouble)(why.map(|why| format!("not watching for messages, but polling: {why}")));
        }
    }
}

impl Seat {
    /// Whether whoever sits here waits to be woken.
    pub(crate) fn rest(&self, rests: bool) {
        if self.seated.rests.swap(rests, Ordering::Relaxed) != rests && rests {
            self.topics.at_rest.notify_one();
        }
    }

    /// How long the pause is between two looks of its own when nothing happens, which is `unwatched` while nobody
    /// watches.
    pub(crate) fn pause(&self, unwatched: Duration) -> Duration {
        match self.seated.is_watched.load(Ordering::Relaxed) {
            true => unwatched.max(super::WATCHED),
            false => unwatched,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.topics.seats().1.remove(&self.number);
    }
}
