//! How long messages were in the outbox of a relay.

use metrics::Histogram;
use watermill_forwarder::OutboxTime;

/// Records what a relay has counted since the last look: into each bucket as many as it has counted in it, and values whose
/// sum is that of the times.
pub(super) fn record(histogram: &Histogram, before: &OutboxTime, now: &OutboxTime) {
    // One that has counted less has begun anew.
    let before = if now.messages < before.messages { &OutboxTime::default() } else { before };
    let counts: Vec<u64> =
        now.buckets.iter().zip(before.buckets).map(|(now, before)| now.saturating_sub(before)).collect();
    let uppers: Vec<f64> = OutboxTime::BOUNDS
        .iter()
        .map(|bound| bound.as_secs_f64())
        .chain([now
            .longest
            .as_secs_f64()
            .max(OutboxTime::BOUNDS[OutboxTime::BOUNDS.len() - 1].as_secs_f64())])
        .collect();
    let lowers: Vec<f64> = std::iter::once(0.0).chain(uppers.iter().copied()).take(counts.len()).collect();
    let sum_of = |bounds: &[f64]| -> f64 {
        bounds.iter().zip(&counts).map(|(bound, count)| bound * *count as f64).sum()
    };
    let (least, most) = (sum_of(&lowers), sum_of(&uppers));
    let total = now.total.saturating_sub(before.total).as_secs_f64();
    // Every time stands at the same part of the way through its bucket.
    let part = if most > least { ((total - least) / (most - least)).clamp(0.0, 1.0) } else { 1.0 };
    for ((lower, upper), count) in lowers.iter().zip(&uppers).zip(&counts).filter(|(_, count)| **count > 0) {
        // The lower bound itself is in the bucket below.
        let value = (lower + part * (upper - lower)).clamp(lower.next_up(), upper.max(lower.next_up()));
        histogram.record_many(value, usize::try_from(*count).unwrap_or(usize::MAX));
    }
}
