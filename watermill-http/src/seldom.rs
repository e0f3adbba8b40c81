//! [`Seldom`]: what strangers can cause as often as they like is not a line in the log each time.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long nothing more is said.
const SILENCE: Duration = Duration::from_secs(10);

/// Counts what happens, and has it said at most once in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Seldom {
    /// Once more. How often it has happened since it was said last, if it is to be said again.
    pub(crate) fn once_more(&self) -> Option<u64> {
        let now = Instant::now();
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.unsaid += 1;
        if count.said_at.is_some_and(|at| now - at < SILENCE) {
            return None;
        }
        count.said_at = Some(now);
        Some(std::mem::take(&mut count.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_at_once_and_then_now_and_then() {
        let seldom = Seldom::default();
        assert_eq!(seldom.once_more(), Some(1));
        for _ in 0..5 {
            assert_eq!(seldom.once_more(), None);
        }
        advance(SILENCE).await;
        assert_eq!(seldom.once_more(), Some(6));
        assert_eq!(seldom.once_more(), None);
    }
}
