//! [`Counter`]: how a run knows that its last message was handled.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts handled messages and wakes whoever waits for a number of them.
#[derive(Debug, Default)]
pub struct Counter {
    handled: AtomicU64,
    until: AtomicU64,
    reached: Notify,
}

impl Counter {
    /// How many were handled.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Acquire)
    }

    /// One more was handled.
    pub fn add_one(&self) {
        if self.handled.fetch_add(1, Ordering::AcqRel) + 1 == self.until.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }

    /// Waits until so many were handled; for one waiter.
    pub async fn reached(&self, until: u64) {
        self.until.store(until, Ordering::Release);
        while self.handled() < until {
            self.reached.notified().await;
        }
    }
}
