//! [`Worker`]: of those who share the messages of a queue, one is woken, who has nothing else to do.
//!
//! Each message is for one of them. Were all woken for it, fifty would ask for what one gets, and look closely for a
//! while; so one is, and who finds that there is more than it takes wakes the next. Whoever is busy is left alone, since what it
//! claimed now would wait until it is done; only where all are busy, all are told, and whoever has room first looks.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::Notify;

use super::{key, listeners};

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// It has something in hand, takes nothing, or waits for an answer of the database.
    Work,
    /// It has nothing in hand, and does not look again soon.
    Rest,
    /// It has nothing in hand, and is about to look.
    Look,
}

/// A worker among others of its topic.
#[derive(Debug)]
pub(crate) struct Worker {
    key: String,
    slot: Arc<Slot>,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Those with the same one have the same queue in the same database.
    place: usize,
    at: AtomicU8,
    called: Notify,
}

/// Listens as one of the workers of a queue, which `place` tells from queues of that name elsewhere.
pub(crate) fn listen_as_worker(topic: &str, place: usize) -> Worker {
    let key = key(topic, None);
    let slot = Slot { place, at: AtomicU8::new(At::Look as u8), called: Notify::new() };
    let slot = Arc::new(slot);
    listeners().entry(key.clone()).or_default().workers.push(slot.clone());
    Worker { key, slot }
}

impl Worker {
    /// Waits for a wake-up that came after the last one that was waited for.
    ///
    /// # Cancel safety
    ///
    /// A wake-up is not lost when the future is dropped.
    pub(crate) async fn woken(&self) {
        self.slot.called.notified().await;
    }

    /// Says what it is at. One that is woken looks, and says what it is at then.
    pub(crate) fn is_at(&self, at: At) {
        self.slot.at.store(at as u8, Ordering::Relaxed);
    }

    /// There is more than this one takes: wakes one that rests, if one does.
    pub(crate) fn pass_on(&self) {
        if let Some(there) = listeners().get(&self.key) {
            call_first(there.workers.iter().filter(|other| self.is_beside(other)), At::Rest);
        }
    }

    fn is_beside(&self, other: &Arc<Slot>) -> bool {
        other.place == self.slot.place && !Arc::ptr_eq(other, &self.slot)
    }
}

impl Drop for Worker {
    /// Who goes may have been woken for what nobody has looked for since.
    fn drop(&mut self) {
        let mut all = listeners();
        let Some(there) = all.get_mut(&self.key) else { return };
        there.workers.retain(|other| !Arc::ptr_eq(other, &self.slot));
        if !self.slot.is_at(At::Rest) {
            call_one(there.workers.iter().filter(|other| self.is_beside(other)));
        }
        if there.is_empty() {
            all.remove(&self.key);
        }
    }
}

impl Slot {
    fn is_at(&self, at: At) -> bool {
        self.at.load(Ordering::Relaxed) == at as u8
    }

    pub(super) fn call(&self) {
        self.called.notify_one();
    }
}

/// Wakes one worker of each place.
pub(super) fn call_one_of_each(workers: &[Arc<Slot>]) {
    for (n, worker) in workers.iter().enumerate() {
        let is_first = workers.iter().take(n).all(|before| before.place != worker.place);
        if is_first {
            call_one(workers.iter().filter(|other| other.place == worker.place));
        }
    }
}

/// Wakes one that looks anyway, or one that rests, or all: who is busy looks when it has room. Who waits for an answer may
/// wait for long.
fn call_one<'s>(workers: impl Iterator<Item = &'s Arc<Slot>> + Clone) {
    if !call_first(workers.clone(), At::Look) && !call_first(workers.clone(), At::Rest) {
        workers.for_each(|worker| worker.call());
    }
}

fn call_first<'s>(mut workers: impl Iterator<Item = &'s Arc<Slot>>, at: At) -> bool {
    let Some(worker) = workers.find(|worker| worker.is_at(at)) else { return false };
    worker.at.store(At::Look as u8, Ordering::Relaxed);
    worker.call();
    true
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{super::wake, *};

    fn woken(workers: &[Worker]) -> Vec<usize> {
        let is_woken = |worker: &Worker| worker.woken().now_or_never().is_some();
        workers.iter().enumerate().filter(|(_, worker)| is_woken(worker)).map(|(n, _)| n).collect()
    }

    fn at(topic: &str, all: &[(usize, At)]) -> Vec<Worker> {
        let listen = |(place, at): &(usize, At)| {
            let worker = listen_as_worker(topic, *place);
            worker.is_at(*at);
            worker
        };
        all.iter().map(listen).collect()
    }

    #[test]
    fn one_that_rests_is_woken_and_the_next_time_the_one_that_looks_already() {
        let workers = at("worker-one", &[(1, At::Work), (1, At::Rest), (1, At::Rest)]);
        wake("worker-one");
        assert_eq!(woken(&workers), [1]);
        wake("worker-one");
        assert_eq!(woken(&workers), [1]);
        workers[1].is_at(At::Work);
        wake("worker-one");
        assert_eq!(woken(&workers), [2]);
    }

    #[test]
    fn where_all_are_busy_all_are_told() {
        let workers = at("worker-busy", &[(1, At::Work), (1, At::Work)]);
        wake("worker-busy");
        assert_eq!(woken(&workers), [0, 1]);
    }

    #[test]
    fn queues_of_one_name_in_two_databases_are_woken_both() {
        let workers = at("worker-two", &[(1, At::Rest), (2, At::Rest), (1, At::Rest), (2, At::Work)]);
        wake("worker-two");
        assert_eq!(woken(&workers), [0, 1]);
    }

    #[test]
    fn who_finds_more_than_it_takes_wakes_one_that_rests_and_nobody_who_is_busy() {
        let workers = at("worker-more", &[(1, At::Look), (1, At::Look), (1, At::Work), (1, At::Rest)]);
        workers[0].pass_on();
        assert_eq!(woken(&workers), [3]);
        workers[0].pass_on();
        assert_eq!(woken(&workers), Vec::<usize>::new());
    }

    #[test]
    fn who_goes_after_it_was_woken_passes_that_on() {
        let mut workers = at("worker-goes", &[(1, At::Rest), (1, At::Rest)]);
        wake("worker-goes");
        drop(workers.remove(0));
        assert_eq!(woken(&workers), [0]);
        drop(workers);
        assert!(!listeners().contains_key("worker-goes"));
    }
}
