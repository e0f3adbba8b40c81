//! [`Wakers`]: tasks to wake once the locks are released.

use std::task::Waker;

/// Tasks to wake, collected under a lock and woken without it: a waker runs foreign code, which may come
/// back for the same lock. One waker is the common case and does not allocate.
#[derive(Debug, Default)]
#[must_use = "whoever is not woken sleeps on"]
pub struct Wakers(
    /// The first and the others. Mostly there is none, and that is one word to write and to look at.
    Option<(Waker, Vec<Waker>)>,
);

impl Wakers {
    /// Adds one.
    pub fn push(&mut self, waker: Waker) {
        match &mut self.0 {
            None => self.0 = Some((waker, Vec::new())),
            Some((_, others)) => others.push(waker),
        }
    }

    /// Wakes all of them; to be called without a lock.
    #[inline]
    pub fn wake(self) {
        if let Some((first, others)) = self.0 {
            wake_all(first, others);
        }
    }
}

impl Extend<Waker> for Wakers {
    #[inline]
    fn extend<T: IntoIterator<Item = Waker>>(&mut self, wakers: T) {
        wakers.into_iter().for_each(|waker| self.push(waker));
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
