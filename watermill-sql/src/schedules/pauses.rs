//! [`Pauses`]: how schedules that cannot be fired wait, each by itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use watermill_core::Backoff;

/// The schedules that could not be fired the last time, so that one that fails holds up no other and is not tried at every
/// look.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    backoff: Backoff,
    failing: BTreeMap<Arc<str>, Failing>,
}

#[derive(Debug)]
struct Failing {
    /// In a row.
    failures: u32,
    again: Instant,
}

impl Pauses {
    /// How long a schedule is still left alone; `None` when it may be tried.
    pub(super) fn remaining(&self, schedule: &str) -> Option<Duration> {
        let again = self.failing.get(schedule)?.again;
        Some(again.saturating_duration_since(Instant::now())).filter(|remaining| !remaining.is_zero())
    }

    /// It could not be fired: says how long it is left alone.
    pub(super) fn failed(&mut self, schedule: &Arc<str>) -> Duration {
        let failures = self.failing.get(schedule).map_or(0, |failing| failing.failures);
        let wait = self.backoff.delay(failures);
        let again = Instant::now() + wait;
        self.failing.insert(schedule.clone(), Failing { failures: failures.saturating_add(1), again });
        wait
    }

    pub(super) fn succeeded(&mut self, schedule: &str) {
        self.failing.remove(schedule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_schedule_that_fails_waits_longer_each_time_and_no_other_does() {
        let (mut pauses, name) = (Pauses::default(), Arc::from("bad"));
        let first = pauses.failed(&name);
        assert_eq!(pauses.remaining("bad"), Some(first));
        assert_eq!(pauses.remaining("good"), None);
        tokio::time::sleep(first).await;
        assert_eq!(pauses.remaining("bad"), None);
        for _ in 0..10 {
            pauses.failed(&name);
        }
        assert!(pauses.remaining("bad").unwrap() > first * 10);
        pauses.succeeded("bad");
        assert_eq!(pauses.remaining("bad"), None);
    }
}
