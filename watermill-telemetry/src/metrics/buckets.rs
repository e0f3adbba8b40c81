//! [`Buckets`]: a histogram of the page, and [`Durations`], which records into it, or into another recorder's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{Histogram, HistogramFn};

/// Counts in buckets, each without those below it.
pub(super) struct Buckets {
    /// The last has no bound.
    buckets: Box<[Bucket]>,
    /// The bits of the sum of what was recorded as a number.
    sum: AtomicU64,
    /// The sum of what was recorded in nanoseconds: 500 years of them.
    sum_nanos: AtomicU64,
}

struct Bucket {
    /// What it holds at the most; infinite for the last.
    bound: f64,
    /// The same in nanoseconds, for whoever has those.
    nanos: u64,
    count: AtomicU64,
}

/// A histogram of durations. On the page of this crate one costs a comparison and two additions; through the facade it would first
/// become a number, which costs twice as much again.
pub(super) enum Durations {
    Page(Arc<Buckets>),
    Other(Histogram),
}

impl Durations {
    #[inline]
    pub(super) fn record(&self, took: Duration) {
        match self {
            Self::Page(buckets) => buckets.record_duration(took),
            Self::Other(histogram) => histogram.record(took.as_secs_f64()),
        }
    }
}

impl Buckets {
    pub(super) fn new(bounds: &[f64]) -> Self {
        // A number that is too large for one is the largest.
        let bucket =
            |bound: f64| Bucket { bound, nanos: (bound * 1e9).round() as u64, count: AtomicU64::new(0) };
        Self {
            buckets: bounds.iter().copied().chain([f64::INFINITY]).map(bucket).collect(),
            sum: AtomicU64::default(),
            sum_nanos: AtomicU64::default(),
        }
    }

    #[inline]
    fn record_duration(&self, took: Duration) {
        // 64 bits are enough for 584 years, and half of what 128 cost.
        let nanos = took.as_secs().wrapping_mul(1_000_000_000).wrapping_add(took.subsec_nanos().into());
        if let Some(bucket) = self.buckets.iter().find(|bucket| nanos <= bucket.nanos) {
            bucket.count.fetch_add(1, Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// The bounds as they are written, and the counts.
    pub(super) fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        self.buckets.iter().map(|bucket| {
            let bound = if bucket.bound.is_finite() { bucket.bound.to_string() } else { "+Inf".to_owned() };
            (bound, bucket.count.load(Relaxed))
        })
    }

    pub(super) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed)) + self.sum_nanos.load(Relaxed) as f64 / 1e9
    }

    fn add(&self, value: f64, count: u64) {
        // What is no number is in the last, as Prometheus's clients have it.
        let bucket = self.buckets.iter().find(|bucket| value <= bucket.bound).or(self.buckets.last());
        if let Some(bucket) = bucket {
            bucket.count.fetch_add(count, Relaxed);
        }
        let added = value * count as f64;
        let mut sum = self.sum.load(Relaxed);
        while let Err(now) =
            self.sum.compare_exchange_weak(sum, (f64::from_bits(sum) + added).to_bits(), Relaxed, Relaxed)
        {
            sum = now;
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.add(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.add(value, count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_of_its_seconds() {
        const BOUNDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.3, 1.0, 10.0];
        let (as_nanos, as_numbers) = (Buckets::new(BOUNDS), Buckets::new(BOUNDS));
        let bounds = BOUNDS.iter().map(|bound| Duration::from_secs_f64(*bound));
        let near = |bound: Duration| {
            let nano = Duration::from_nanos(1);
            [bound - nano, bound, bound + nano]
        };
        for took in bounds.flat_map(near).chain([Duration::ZERO, Duration::from_secs(1_000_000)]) {
            as_nanos.record_duration(took);
            as_numbers.record(took.as_secs_f64());
        }
        assert_eq!(as_nanos.counts().collect::<Vec<_>>(), as_numbers.counts().collect::<Vec<_>>());
        assert!((as_nanos.sum() - as_numbers.sum()).abs() < 1e-6);
    }

    #[test]
    fn many_of_one_value_are_counted_as_that_many() {
        let buckets = Buckets::new(&[1.0, 2.0]);
        buckets.record_many(1.5, 3);
        assert_eq!(buckets.counts().map(|(_, count)| count).collect::<Vec<_>>(), [0, 3, 0]);
        assert_eq!(buckets.sum(), 4.5);
    }
}
