//! [`Awake`]: which lanes were woken.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// The lanes that were woken since they were polled last. With a waker for each lane, a worker with hundreds of
/// them polls those that can go on and no others.
#[derive(Default)]
pub(super) struct Awake {
    slots: Mutex<Vec<usize>>,
    worker: AtomicWaker,
}

/// Wakes one lane, and the worker with it.
pub(super) struct LaneWaker {
    slot: usize,
    is_awake: AtomicBool,
    awake: Arc<Awake>,
}

impl Awake {
    /// Remembers whom to wake when a lane is woken.
    pub(super) fn register(&self, worker: &Waker) {
        self.worker.register(worker);
    }

    /// Takes the lanes that were woken.
    pub(super) fn take(&self) -> Vec<usize> {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneWaker {
    pub(super) fn new(slot: usize, awake: Arc<Awake>) -> Arc<Self> {
        Arc::new(Self { slot, is_awake: AtomicBool::new(false), awake })
    }

    /// The lane is about to be polled. To be called before: a wake-up during the poll must not be lost.
    pub(super) fn polls(&self) {
        self.is_awake.store(false, Ordering::Release);
    }
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_awake.swap(true, Ordering::AcqRel) {
            self.awake.lock().push(self.slot);
            self.awake.worker.wake();
        }
    }
}
