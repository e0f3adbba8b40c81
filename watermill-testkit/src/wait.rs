//! Waiting for something to become true, with an end to the patience.
//!
//! The patience is counted by the real clock. That of a runtime whose time is paused jumps ahead as soon as
//! everybody waits: a wait that counted by it would end while a handler that takes an hour has hardly begun.

use std::{
    env,
    future::Future,
    sync::{Mutex, PoisonError, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task_local,
};

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
        tokio::select! {
            biased;
            found = self.until(look) => found,
            () = real_time(patience()) => {
                panic!("waited {:?} for {what}, but saw {}", patience(), self.read(seen))
            }
        }
    }

    /// The next change.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

/// Ends when so much time has passed, whatever the runtime's clock says.
async fn real_time(time: Duration) {
    let (done, passed) = oneshot::channel();
    // Dropped with this future, it ends the thread.
    let (_cancel, cancelled) = std::sync::mpsc::sync_channel::<()>(1);
    // Not by `spawn_blocking`: a paused clock stands still while there are such tasks.
    thread::spawn(move || {
        if cancelled.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            let _ = done.send(());
        }
    });
    if passed.await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_outlasts_hours_of_a_paused_clock() {
        let state = std::sync::Arc::new(Watched::<bool>::default());
        let later = state.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            later.change(|state| *state = true);
        });
        state.expect("an hour", |state| state.then_some(()), bool::to_string).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_ends_with_what_was_seen_though_the_clock_is_paused() {
        for ticks in [false, true] {
            // A clock that jumps ahead for ever, and one that has nothing to jump to.
            let ticking = ticks.then(|| {
                tokio::spawn(async {
                    loop {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    }
                })
            });
            let state = Watched::<bool>::default();
            let waiting = state.expect("the end", |state| state.then_some(()), bool::to_string);
            let waiting = with_patience(Duration::from_millis(50), waiting);
            let panic = std::panic::AssertUnwindSafe(waiting).catch_unwind().await.unwrap_err();
            let text = panic.downcast::<String>().unwrap();
            assert_eq!(*text, "waited 50ms for the end, but saw false");
            if let Some(ticking) = ticking {
                ticking.abort();
            }
        }
    }
}
