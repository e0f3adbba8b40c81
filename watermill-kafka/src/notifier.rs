//! [`Notifier`]: wakes the thread that serves a client.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Remembers that it was notified until somebody has heard it.
#[derive(Default)]
pub(crate) struct Notifier {
    notified: Mutex<bool>,
    heard: Condvar,
}

impl Notifier {
    /// Never blocks for longer than it takes to set a flag; it is called by callbacks of librdkafka, under
    /// its locks.
    pub(crate) fn notify(&self) {
        *self.notified.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Waits until it is notified, or was since the last time, for `timeout` at most.
    pub(crate) fn wait(&self, timeout: Duration) {
        let notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut notified, _) = self
            .heard
            .wait_timeout_while(notified, timeout, |notified| !*notified)
            .unwrap_or_else(PoisonError::into_inner);
        *notified = false;
    }
}
