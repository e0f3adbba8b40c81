//! Wake-ups of readers: a publish in this process tells the readers of its topic to look at once, and
//! so does the watch of a database that has seen what other processes do.
//!
//! They are keyed by the topic alone, not by the database: with several databases in one process, a
//! wake-up for nothing costs a reader one poll, a missing one costs its user the poll interval. They carry no facts, so they may come
//! before the commit that they are about (the publisher cannot see the caller's commit); a reader
//! that finds nothing looks again after a moment, and then after half of the time that it has waited, so
//! that it sees the commit soon.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// Those who listen, by topic, or by topic and group. An entry goes with the last of them.
static READERS: LazyLock<Mutex<HashMap<String, watch::Sender<()>>>> = LazyLock::new(Mutex::default);

/// The wake-ups of one kind, as one reader gets them.
pub(crate) struct WakeUps {
    key: String,
    receiver: Option<watch::Receiver<()>>,
}

/// Tells the readers of `topic` to look.
pub(crate) fn wake(topic: &str) {
    call(&key(topic, None));
}

/// Tells those who stand by for a group that the lease is free.
pub(crate) fn wake_standbys(topic: &str, group: &str) {
    call(&key(topic, Some(group)));
}

/// Listens for what is published to `topic` from now on.
pub(crate) fn listen(topic: &str) -> WakeUps {
    WakeUps::new(key(topic, None))
}

/// Listens for leases of a group that are given back from now on.
pub(crate) fn listen_for_lease(topic: &str, group: &str) -> WakeUps {
    WakeUps::new(key(topic, Some(group)))
}

impl WakeUps {
    fn new(key: String) -> Self {
        let receiver = readers().entry(key.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        Self { key, receiver: Some(receiver) }
    }

    /// Waits for a wake-up that came after the last one that was waited for.
    ///
    /// # Cancel safety
    ///
    /// A wake-up is not lost when the future is dropped.
    pub(crate) async fn woken(&mut self) {
        // The sender lives as long as this receiver does.
        if let Some(receiver) = &mut self.receiver {
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for WakeUps {
    fn drop(&mut self) {
        self.receiver = None;
        let mut readers = readers();
        if readers.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            readers.remove(&self.key);
        }
    }
}

fn call(key: &str) {
    if let Some(sender) = readers().get(key) {
        sender.send_replace(());
    }
}

/// Some databases do not tell upper case from lower case in table names; no topic has a space.
fn key(topic: &str, group: Option<&str>) -> String {
    let mut key = topic.to_ascii_lowercase();
    if let Some(group) = group {
        key.push(' ');
        key.push_str(group);
    }
    key
}

fn readers() -> MutexGuard<'static, HashMap<String, watch::Sender<()>>> {
    READERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_not_lost() {
        let mut wake_ups = listen("wake-before");
        wake("wake-before");
        wake_ups.woken().await;
        assert!(wake_ups.woken().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_entry_goes_with_its_last_reader() {
        let (one, two) = (listen("wake-gone"), listen("wake-gone"));
        drop(one);
        assert!(readers().contains_key("wake-gone"));
        drop(two);
        assert!(!readers().contains_key("wake-gone"));
    }
}
