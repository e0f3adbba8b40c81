//! Waiting for something to become true, with an end to the patience.

use std::{
    env,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task_local, time};

/// How long anything in this crate waits before it gives up: `WATERMILL_TEST_PATIENCE_SECONDS`, 30
/// when it is not set.
///
/// It only bounds failures. What succeeds never waits for it, so a slow machine may have more.
///
/// # Panics
///
/// When the variable is set to something that is not a whole number of seconds.
pub fn patience() -> Duration {
    if let Ok(patience) = PATIENCE.try_with(|patience| *patience) {
        return patience;
    }
    const VARIABLE: &str = "WATERMILL_TEST_PATIENCE_SECONDS";
    match env::var(VARIABLE) {
        Ok(seconds) => Duration::from_secs(
            seconds.parse().unwrap_or_else(|_| panic!("{VARIABLE} is {seconds:?}, not a number of seconds")),
        ),
        Err(_) => Duration::from_secs(30),
    }
}

task_local! {
    static PATIENCE: Duration;
}

/// Runs a future with another [`patience`]: a short one, for a test that something fails.
pub async fn with_patience<F: Future>(patience: Duration, future: F) -> F::Output {
    PATIENCE.scope(patience, future).await
}

/// State that is changed in one place and waited for in another.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    state: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state in a way that concerns nobody who waits.
    pub(crate) fn change_silently<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and wakes everybody who waits for a change.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds what it looks for, however long that takes.
    pub(crate) async fn until<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            // Registered before the look, so that no change in between goes unnoticed.
            changed.as_mut().enable();
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            changed.await;
        }
    }

    /// The same within the [`patience`]; the panic says what was waited for and what `seen` was there
    /// instead.
    pub(crate) async fn expect<R>(
        &self,
        what: &str,
        look: impl FnMut(&T) -> Option<R>,
        seen: impl FnOnce(&T) -> String,
    ) -> R {
        match time::timeout(patience(), self.until(look)).await {
            Ok(found) => found,
            Err(_) => panic!("waited {:?} for {what}, but saw {}", patience(), self.read(seen)),
        }
    }

    /// The next change.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}
