//! [`Plan`]: when a schedule fires.

use std::{fmt, time::Duration};

#[cfg(feature = "cron")]
use croner::Cron;
#[cfg(feature = "cron")]
use jiff::{Timestamp, Zoned, tz::TimeZone};
#[cfg(feature = "cron")]
use watermill_core::error::ConfigError;
use watermill_core::go_duration;

/// When a schedule fires, in milliseconds since the Unix epoch.
#[derive(Clone)]
pub(super) enum Plan {
    Every(i64),
    #[cfg(feature = "cron")]
    Cron(Box<Crontab>),
}

/// A cron pattern in a time zone.
#[cfg(feature = "cron")]
#[derive(Clone)]
pub(super) struct Crontab {
    pattern: String,
    cron: Cron,
    zone: TimeZone,
}

impl Plan {
    pub(super) fn every(interval: Duration) -> Self {
        Self::Every(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX))
    }

    /// The first time after this one; `None` where there is none before the end of time.
    pub(super) fn next(&self, after_ms: i64) -> Option<i64> {
        match self {
            Self::Every(interval) => after_ms.checked_add(*interval),
            #[cfg(feature = "cron")]
            Self::Cron(crontab) => crontab.next(after_ms),
        }
    }

    /// What has become due of a schedule whose next time was `from_ms`: the last times up to now, at most `max` of them,
    /// in order; and the next time that is still to come.
    pub(super) fn due(&self, from_ms: i64, now_ms: i64, max: usize) -> (Vec<i64>, Option<i64>) {
        let mut times = Vec::new();
        let mut time = self.last(from_ms, now_ms);
        while let Some(due) = time.filter(|due| *due >= from_ms && times.len() < max) {
            times.push(due);
            time = self.last(from_ms, due - 1);
        }
        times.reverse();
        let next = match self {
            // The rhythm goes on as it began.
            Self::Every(interval) => self.last(from_ms, now_ms).unwrap_or(from_ms).checked_add(*interval),
            #[cfg(feature = "cron")]
            Self::Cron(crontab) => crontab.next(now_ms),
        };
        (times, next)
    }

    /// The last time up to this one, of those that begin with `from_ms`.
    fn last(&self, from_ms: i64, up_to_ms: i64) -> Option<i64> {
        let passed = up_to_ms.checked_sub(from_ms).filter(|passed| *passed >= 0)?;
        Some(match self {
            Self::Every(interval) => from_ms + passed / interval * interval,
            // The first is a time though it may be none of ours: who stored it may know another time zone by the same name.
            #[cfg(feature = "cron")]
            Self::Cron(crontab) => crontab.last(up_to_ms).unwrap_or(from_ms).max(from_ms),
        })
    }
}

#[cfg(feature = "cron")]
impl Plan {
    /// # Errors
    ///
    /// [`ConfigError`] when the pattern is none, never fires, or the zone is not known here.
    pub(super) fn cron(pattern: &str, zone: Option<&str>) -> Result<Self, ConfigError> {
        let what = || format!("read the cron pattern {pattern:?}");
        let cron: Cron = pattern.parse().map_err(|error| ConfigError::new(what(), format!("{error}")))?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|error| {
                ConfigError::new(format!("find the time zone {name:?}"), format!("{error}"))
            })?,
        };
        let crontab = Crontab { pattern: pattern.to_owned(), cron, zone };
        if crontab.next(Timestamp::now().as_millisecond()).is_none() {
            return Err(ConfigError::new(what(), "it never fires"));
        }
        Ok(Self::Cron(Box::new(crontab)))
    }
}

#[cfg(feature = "cron")]
impl Crontab {
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    fn next(&self, after_ms: i64) -> Option<i64> {
        let next = self.cron.find_next_occurrence(&self.at(after_ms)?, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }

    fn last(&self, up_to_ms: i64) -> Option<i64> {
        let last = self.cron.find_previous_occurrence(&self.at(up_to_ms)?, true).ok()?;
        Some(last.timestamp().as_millisecond())
    }

    fn at(&self, time_ms: i64) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(time_ms).ok()?.to_zoned(self.zone.clone()))
    }
}

/// As it is stored: another text is another plan.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => {
                let interval = Duration::from_millis(interval.unsigned_abs());
                write!(f, "every {}", go_duration::format(interval))
            }
            #[cfg(feature = "cron")]
            Self::Cron(crontab) => {
                write!(f, "cron {} {}", crontab.pattern, crontab.zone.iana_name().unwrap_or("UTC"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_keeps_its_rhythm_whatever_was_missed() {
        let plan = Plan::every(Duration::from_secs(10));
        assert_eq!(plan.next(5_000), Some(15_000));
        assert_eq!(plan.due(15_000, 15_000, 1), (vec![15_000], Some(25_000)));
        assert_eq!(plan.due(15_000, 47_000, 1), (vec![45_000], Some(55_000)));
        assert_eq!(plan.due(15_000, 47_000, 3), (vec![25_000, 35_000, 45_000], Some(55_000)));
        assert_eq!(plan.due(15_000, 47_000, 9).0, [15_000, 25_000, 35_000, 45_000]);
        assert_eq!(plan.to_string(), "every 10s");
    }

    #[cfg(feature = "cron")]
    mod cron {
        use super::*;

        fn ms(text: &str) -> i64 {
            text.parse::<Timestamp>().unwrap().as_millisecond()
        }

        #[test]
        fn a_pattern_fires_at_its_times() {
            let plan = Plan::cron("0 3 * * MON", None).unwrap();
            let monday = ms("2026-11-30T03:00:00Z");
            assert_eq!(plan.next(ms("2026-11-28T01:00:00Z")), Some(monday));
            assert_eq!(plan.due(monday, monday + 5, 5), (vec![monday], Some(ms("2026-12-07T03:00:00Z"))));
            let (missed, next) = plan.due(monday, ms("2026-12-20T12:00:00Z"), 2);
            assert_eq!(missed, [ms("2026-12-07T03:00:00Z"), ms("2026-12-14T03:00:00Z")]);
            assert_eq!(next, Some(ms("2026-12-21T03:00:00Z")));
        }

        #[test]
        fn a_pattern_is_of_its_time_zone_when_the_clocks_change() {
            let plan = Plan::cron("30 2 * * *", Some("Europe/Berlin")).unwrap();
            let before = ms("2026-03-27T12:00:00Z");
            let first = plan.next(before).unwrap();
            assert_eq!(first, ms("2026-03-28T01:30:00Z"), "in winter");
            // At two o'clock of the 29th it is three: there is no half past two.
            let second = plan.next(first).unwrap();
            let third = plan.next(second).unwrap();
            assert_eq!(
                plan.due(second, second + 5, 9),
                (vec![second], Some(third)),
                "it fires at the change"
            );
            assert_eq!(third, ms("2026-03-30T00:30:00Z"), "in summer");
            assert_eq!(plan.to_string(), "cron 30 2 * * * Europe/Berlin");
        }

        #[test]
        fn a_time_that_another_process_has_stored_fires_though_it_is_none_of_ours() {
            let plan = Plan::cron("0 3 * * *", None).unwrap();
            let (stored, ours) = (ms("2026-11-30T02:00:00Z"), ms("2026-11-30T03:00:00Z"));
            assert_eq!(plan.due(stored, stored + 5, 9), (vec![stored], Some(ours)));
            assert_eq!(plan.due(stored, ours + 5, 9).0, [stored, ours]);
        }

        #[test]
        fn what_is_no_pattern_and_what_never_fires_are_refused() {
            for wrong in ["", "every day", "61 * * * *", "0 0 30 2 *"] {
                assert!(Plan::cron(wrong, None).is_err(), "{wrong}");
            }
            assert!(Plan::cron("0 3 * * *", Some("Atlantis/Poseidonis")).is_err());
        }
    }
}
