//! [`Wakers`]: tasks to wake once the locks are released.

use std::task::Waker;

/// A waker runs foreign code, which may come back here: so they are collected under the lock and
/// called without it. One is the common case and does not allocate.
#[derive(Default)]
#[must_use = "whoever is not woken sleeps on"]
pub(super) struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    pub(super) fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.others.push(waker);
        }
    }

    pub(super) fn extend(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.push(waker);
        }
    }

    #[inline]
    pub(super) fn wake(self) {
        if let Some(first) = self.first {
            wake_all(first, self.others);
        }
    }
}

/// Out of the way of the many calls that wake nobody.
#[cold]
fn wake_all(first: Waker, others: Vec<Waker>) {
    first.wake();
    for waker in others {
        waker.wake();
    }
}
