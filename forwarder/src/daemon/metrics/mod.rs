//! Metrics, as Prometheus reads them.

mod metered;
mod text;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub(crate) use metered::{Metered, MeteredFenced};
pub(crate) use text::{Shown, render};
use watermill_core::error::{PublishError, PublishErrorKind};
use watermill_forwarder::OutboxTime;

/// The bounds of the buckets of batch sizes, in messages.
const BATCHES: &[f64] = &[1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];
/// The bounds of the buckets of latencies, in seconds.
const SECONDS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What is measured of one relay.
#[derive(Debug, Default)]
pub(crate) struct RelayMetrics(Mutex<Measured>);

/// The figures.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) batches: Histogram,
    pub(crate) latencies: Histogram,
    /// Calls by what came of them: `ok`, or the kind of the error.
    pub(crate) attempts: BTreeMap<&'static str, u64>,
    pub(crate) lease_changes: u64,
    /// Who had each shard last, or the topic as a whole.
    pub(crate) last_owners: Owners,
    /// As the source said last; none while it does not answer.
    pub(crate) source: Option<SourceFigures>,
}

/// The owners of leases, by the number of the shard; of a topic that is not read in shards there is one, without a number.
pub(crate) type Owners = BTreeMap<Option<u32>, String>;

/// What a source was found to hold. What is not known is not shown: a figure that is always the same would be believed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SourceFigures {
    pub(crate) backlog: Option<u64>,
    pub(crate) oldest: Option<Duration>,
    pub(crate) has_owner: Option<bool>,
    pub(crate) has_dead_letters: bool,
}

/// Counts in buckets, each with those below it.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub(crate) bounds: &'static [f64],
    pub(crate) counts: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            batches: Histogram::new(BATCHES),
            latencies: Histogram::new(SECONDS),
            attempts: BTreeMap::new(),
            lease_changes: 0,
            last_owners: Owners::new(),
            source: None,
        }
    }
}

impl RelayMetrics {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Takes note of a call to a destination.
    pub(crate) fn called(&self, messages: usize, took: Duration, result: &Result<(), PublishError>) {
        let mut measured = self.lock();
        measured.batches.observe(messages as f64);
        measured.latencies.observe(took.as_secs_f64());
        *measured.attempts.entry(outcome(result)).or_default() += 1;
    }

    /// Takes note of what the source holds, and of who reads it.
    pub(crate) fn asked(&self, source: Option<SourceFigures>, owners: Owners) {
        let mut measured = self.lock();
        measured.source = source;
        for (shard, owner) in owners {
            let last = measured.last_owners.insert(shard, owner.clone());
            // The first one that is seen is no change.
            measured.lease_changes += u64::from(last.is_some_and(|last| last != owner));
        }
    }

    pub(crate) fn measured(&self) -> Measured {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        for (bound, count) in self.bounds.iter().zip(&mut self.counts) {
            *count += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }
}

/// The bounds of [`OutboxTime`], in seconds.
const OUTBOX: [f64; OutboxTime::BOUNDS.len()] = {
    let mut bounds = [0.0; OutboxTime::BOUNDS.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = OutboxTime::BOUNDS[at].as_millis() as f64 / 1e3;
        at += 1;
    }
    bounds
};

impl From<&OutboxTime> for Histogram {
    fn from(times: &OutboxTime) -> Self {
        let below = |sum: &mut u64, count: &u64| {
            *sum += count;
            Some(*sum)
        };
        Self {
            bounds: &OUTBOX,
            counts: times.buckets.iter().take(OUTBOX.len()).scan(0, below).collect(),
            count: times.messages,
            sum: times.total.as_secs_f64(),
        }
    }
}

fn outcome(result: &Result<(), PublishError>) -> &'static str {
    match result.as_ref().map_err(PublishError::kind) {
        Ok(()) => "ok",
        Err(PublishErrorKind::Closed) => "closed",
        Err(PublishErrorKind::Topic) => "topic",
        Err(PublishErrorKind::Message) => "message",
        Err(PublishErrorKind::Unavailable) => "unavailable",
        Err(PublishErrorKind::Timeout) => "timeout",
        Err(PublishErrorKind::Unsupported) => "unsupported",
        Err(PublishErrorKind::Fenced) => "fenced",
        Err(PublishErrorKind::Refused) => "refused",
        Err(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_everything_below_its_bound() {
        let mut histogram = Histogram::new(&[1.0, 10.0]);
        [0.5, 1.0, 5.0, 50.0].into_iter().for_each(|value| histogram.observe(value));
        assert_eq!(histogram.counts, [2, 3]);
        assert_eq!((histogram.count, histogram.sum), (4, 56.5));
    }

    #[test]
    fn an_owner_that_follows_another_is_a_change() {
        let metrics = RelayMetrics::default();
        for owner in [Some("a"), None, Some("a"), Some("b")] {
            metrics.asked(None, owner.map(|owner| (None, owner.to_owned())).into_iter().collect());
        }
        assert_eq!(metrics.measured().lease_changes, 1);
    }

    #[test]
    fn of_several_shards_each_has_owners_of_its_own() {
        let metrics = RelayMetrics::default();
        let owners = |owners: &[(u32, &str)]| {
            owners.iter().map(|(shard, owner)| (Some(*shard), (*owner).to_owned())).collect()
        };
        metrics.asked(None, owners(&[(0, "a/0"), (1, "b/1")]));
        // Nobody has the first for a moment.
        metrics.asked(None, owners(&[(1, "b/1")]));
        metrics.asked(None, owners(&[(0, "a/0"), (1, "b/1")]));
        assert_eq!(metrics.measured().lease_changes, 0);
        metrics.asked(None, owners(&[(0, "c/0"), (1, "c/1")]));
        assert_eq!(metrics.measured().lease_changes, 2);
    }
}
