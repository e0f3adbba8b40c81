//! [`Bell`]: wakes the thread that serves a client.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Remembers that it was rung until somebody has heard it.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Never blocks for longer than it takes to set a flag; it is called by callbacks of librdkafka, under
    /// its locks.
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Waits until it is rung, or was since the last time, for `timeout` at most.
    pub(crate) fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .heard
            .wait_timeout_while(rung, timeout, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}
