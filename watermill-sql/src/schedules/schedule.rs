//! [`Schedule`]: what is to be published again and again.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};
use uuid::Builder;
use watermill_core::Message;
#[cfg(feature = "cron")]
use watermill_core::error::ConfigError;

use super::plan::Plan;

/// The longest name of a schedule, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A message that is published to a topic at an interval, or at the times of a cron pattern.
///
/// Unless [made](Self::message) otherwise, the message is JSON that names the schedule and the time that it is for:
/// `{"schedule":"heartbeat","due_ms":1764291600000}`. Its id is made of the same two, so that an inbox knows it again.
#[derive(Clone)]
pub struct Schedule {
    pub(super) name: Arc<str>,
    pub(super) topic: String,
    pub(super) plan: Plan,
    pub(super) missed: Missed,
    make: Option<Arc<Make>>,
}

type Make = dyn Fn(&Firing) -> Message + Send + Sync;

/// One time at which a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Firing {
    /// The name of the schedule.
    pub schedule: Arc<str>,
    /// The time that it is for, which has passed by a little, or by more if it was [missed](Missed).
    pub due: SystemTime,
}

/// What becomes of times at which no process was there to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The last of them fires, late, and stands for all. The default.
    Once,
    /// None of them fires, unless it is late by less than this.
    Skip {
        /// How late a firing may be.
        tolerance: Duration,
    },
    /// Each of them fires, late and in order, but of very many only the last ones, in one transaction.
    All {
        /// How many fire at the most.
        at_most: usize,
    },
}

impl Schedule {
    /// Publishes to `topic` once in every interval, of 10 ms at least. The first time is an interval after some process has
    /// known the schedule for the first time; later starts do not change the rhythm.
    ///
    /// The name, of 200 bytes at most, is that of the schedule in the whole database: whoever has one of this name
    /// takes part in firing it.
    pub fn every(name: impl Into<Arc<str>>, interval: Duration, topic: impl Into<String>) -> Self {
        Self::new(name.into(), Plan::every(interval), topic.into())
    }

    /// Publishes to `topic` at the times of a cron pattern in UTC: minute, hour, day of the month, month, day of the week,
    /// and seconds before them if there are six fields. `0 3 * * *` is every night at three.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for what is no pattern, and for one that never fires.
    #[cfg(feature = "cron")]
    pub fn cron(
        name: impl Into<Arc<str>>,
        pattern: &str,
        topic: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        Ok(Self::new(name.into(), Plan::cron(pattern, None)?, topic.into()))
    }

    /// Reads the cron pattern in a time zone, by its name such as `Europe/Berlin`, from the machine's database of them. Where
    /// clocks are put forward, a time that there is not fires at the change; where they are put back, one that there is
    /// twice does not fire for another hour's sake.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a zone that the machine does not know. An interval has none.
    #[cfg(feature = "cron")]
    pub fn in_time_zone(mut self, zone: &str) -> Result<Self, ConfigError> {
        match &self.plan {
            Plan::Cron(crontab) => self.plan = Plan::cron(crontab.pattern(), Some(zone))?,
            Plan::Every(_) => {
                let what = format!("set the time zone {zone:?}");
                return Err(ConfigError::new(what, "an interval is the same everywhere"));
            }
        }
        Ok(self)
    }

    fn new(name: Arc<str>, plan: Plan, topic: String) -> Self {
        Self { name, topic, plan, missed: Missed::Once, make: None }
    }

    /// Sets what becomes of times that were missed.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Makes the message.
    #[must_use]
    pub fn message(mut self, make: impl Fn(&Firing) -> Message + Send + Sync + 'static) -> Self {
        self.make = Some(Arc::new(make));
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let name = &self.name;
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(format!("schedule {name:?}: {problem}"));
            }
        };
        require(!name.is_empty(), "it has no name");
        require(name.len() <= NAME_BYTES_MAX, "its name is longer than 200 bytes");
        require(!self.topic.is_empty(), "its topic has no name");
        let is_slow = match &self.plan {
            Plan::Every(interval) => *interval >= INTERVAL_MIN.as_millis() as i64,
            #[cfg(feature = "cron")]
            Plan::Cron(_) => true,
        };
        require(is_slow, "its interval is shorter than 10 ms");
        require(!matches!(self.missed, Missed::All { at_most: 0 }), "at_most is 0, so it would never fire");
        problems
    }

    /// What is published of a schedule whose next time was `from_ms`; and the next time.
    pub(super) fn due(&self, from_ms: i64, now_ms: i64) -> (Vec<Message>, Option<i64>) {
        let max = match self.missed {
            Missed::All { at_most } => at_most,
            Missed::Once | Missed::Skip { .. } => 1,
        };
        let (mut times, next) = self.plan.due(from_ms, now_ms, max);
        if let Missed::Skip { tolerance } = self.missed {
            let tolerance_ms = i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX);
            times.retain(|due| now_ms - due <= tolerance_ms);
        }
        if times.first() != Some(&from_ms) {
            tracing::warn!(
                schedule = &*self.name,
                late_ms = now_ms - from_ms,
                firing = times.len(),
                missed = ?self.missed,
                "times of a schedule were missed"
            );
        }
        (times.into_iter().map(|due| self.make(due)).collect(), next)
    }

    fn make(&self, due_ms: i64) -> Message {
        let due = UNIX_EPOCH + Duration::from_millis(due_ms.unsigned_abs());
        let firing = Firing { schedule: self.name.clone(), due };
        if let Some(make) = &self.make {
            return make(&firing);
        }
        let payload = serde_json::json!({ "schedule": &*self.name, "due_ms": due_ms });
        Message::with_id(firing.id(), payload.to_string())
    }
}

impl Firing {
    /// An id that is always the same for this schedule and this time: a UUID of version 8.
    pub fn id(&self) -> String {
        let due_ms = self.due.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let hash = Sha256::digest(format!("{due_ms} {}", self.schedule));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?}, {}, to {:?})", self.name, self.plan, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(missed: Missed) -> Schedule {
        Schedule::every("tick", Duration::from_secs(10), "ticks").missed(missed)
    }

    fn due_ms(messages: &[Message]) -> Vec<u64> {
        let of = |message: &Message| {
            message.decode_json::<serde_json::Value>().unwrap()["due_ms"].as_u64().unwrap()
        };
        messages.iter().map(of).collect()
    }

    #[test]
    fn what_was_missed_is_for_the_policy() {
        let skip = |secs| Missed::Skip { tolerance: Duration::from_secs(secs) };
        for (missed, now_ms, fires) in [
            (Missed::Once, 10_000, vec![10_000]),
            (Missed::Once, 47_000, vec![40_000]),
            (skip(5), 10_200, vec![10_000]),
            (skip(5), 47_000, vec![]),
            (skip(8), 47_000, vec![40_000]),
            (Missed::All { at_most: 10 }, 47_000, vec![10_000, 20_000, 30_000, 40_000]),
            (Missed::All { at_most: 2 }, 47_000, vec![30_000, 40_000]),
        ] {
            let (messages, next) = schedule(missed).due(10_000, now_ms);
            assert_eq!(due_ms(&messages), fires, "{missed:?} at {now_ms}");
            assert_eq!(next, Some(if now_ms == 47_000 { 50_000 } else { 20_000 }));
        }
    }

    #[test]
    fn a_time_has_one_id_and_another_time_another() {
        let id = |ms| schedule(Missed::Once).make(ms).id().to_string();
        assert_eq!(id(10_000), id(10_000));
        assert_ne!(id(10_000), id(20_000));
        assert_eq!(id(10_000).len(), 36);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let ms = Duration::from_millis(1);
        assert_eq!(Schedule::every("", ms, "").missed(Missed::All { at_most: 0 }).problems().len(), 4);
        assert!(schedule(Missed::Once).problems().is_empty());
    }
}
