//! [`Pace`]: when one of the things that a reader does is done again after it has failed, and [`Polling`]: when rows
//! are looked for again after none were found.

use std::time::Duration;

use tokio::time::Instant;

/// How often it has failed in a row, and until when the database is left alone. Each thing that a reader does has
/// its own, so that none waits for the trouble of another.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
    rest_until: Option<Instant>,
}

impl Pace {
    /// How often it has failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When it may be done that is due at `at`.
    pub(crate) fn not_before(&self, at: Instant) -> Instant {
        self.rest_until.map_or(at, |rest_until| rest_until.max(at))
    }

    /// It has failed, and is not tried again for so long. Returns how often it has failed in a row.
    pub(crate) fn failed(&mut self, rest: Duration) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.rest_until = Some(Instant::now() + rest);
        self.failures
    }

    /// It has worked; returns how often it had failed before.
    pub(crate) fn succeeded(&mut self) -> u32 {
        self.rest_until = None;
        std::mem::take(&mut self.failures)
    }
}

/// When to look for rows. Whoever was woken, or has found something, looks again after a moment, and then after half of
/// the time that has passed since: a transaction that is still open then is seen to commit after half as long again at
/// most.
#[derive(Debug)]
pub(crate) struct Polling {
    at: Instant,
    /// Since when nothing has happened.
    quiet_since: Instant,
    pause_min: Duration,
}

/// How soon somebody looks again who was woken and has found nothing.
const WOKEN: Duration = Duration::from_millis(1);
/// Whoever looks again within this need not be woken.
const SOON: Duration = Duration::from_millis(16);

impl Polling {
    pub(crate) fn new(pause_min: Duration, now: Instant) -> Self {
        Self { at: now, quiet_since: now, pause_min }
    }

    /// When to look.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Something was published, or is about to be committed.
    pub(crate) fn woken(&mut self, now: Instant) {
        (self.at, self.quiet_since, self.pause_min) = (now, now, self.pause_min.min(WOKEN));
    }

    /// Rows were found, and are looked for again after this.
    pub(crate) fn found(&mut self, pause: Duration, pause_min: Duration, now: Instant) {
        (self.at, self.quiet_since, self.pause_min) = (now + pause, now, pause_min);
    }

    /// Nothing was found. The pause grows to `pause_max`, in the place of which there is one `at_rest`.
    pub(crate) fn found_nothing(&mut self, pause_max: Duration, at_rest: Duration, now: Instant) {
        let quiet = now.saturating_duration_since(self.quiet_since);
        let pause = (quiet / 2).max(self.pause_min);
        self.at = now + if pause < pause_max { pause } else { at_rest };
    }

    /// Looks at this time at the latest.
    pub(crate) fn no_later_than(&mut self, at: Instant) {
        self.at = self.at.min(at);
    }
}

/// Whether somebody who looks at this time, or at none, had better be woken before.
pub(crate) fn rests(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at > now + SOON)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(250);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn whoever_was_woken_looks_closely_and_sees_a_commit_soon() {
        let start = Instant::now();
        let mut polling = Polling::new(ms(5), start);
        polling.woken(start);
        let (mut now, mut looks) = (start, 0);
        while now < start + ms(100) {
            polling.found_nothing(MAX, MAX, now);
            let waited = now.saturating_duration_since(start);
            assert!(polling.at() - now <= ms(1).max(waited / 2));
            (now, looks) = (polling.at(), looks + 1);
        }
        assert!(looks < 20, "{looks} looks");
    }

    #[test]
    fn the_pause_has_bounds() {
        let start = Instant::now();
        let mut polling = Polling::new(ms(5), start);
        polling.found_nothing(MAX, ms(30_000), start);
        assert_eq!(polling.at(), start + ms(5));
        polling.found_nothing(MAX, MAX, start + ms(60_000));
        assert_eq!(polling.at(), start + ms(60_250));
        polling.found_nothing(MAX, ms(30_000), start + ms(60_000));
        assert_eq!(polling.at(), start + ms(90_000));
        polling.found(ms(5), ms(5), start + ms(70_000));
        polling.found_nothing(MAX, ms(30_000), start + ms(70_005));
        assert_eq!(polling.at(), start + ms(70_010));
    }
}
