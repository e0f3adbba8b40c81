//! Counts of one handler: written by its worker alone, read by anyone.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// What happened to the messages of a handler so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Deliveries taken from the subscription.
    pub received: u64,
    /// Deliveries acked after the handler succeeded and its outputs were accepted.
    pub acked: u64,
    /// Deliveries given back: they come again.
    pub nacked: u64,
    /// Tries in place after the first.
    pub retried: u64,
    /// Deliveries published to a dead-letter topic, and acked.
    pub dead_lettered: u64,
    /// Deliveries rejected to the backend.
    pub rejected: u64,
    /// Deliveries acked although the handler failed, because its policy says so.
    pub dropped: u64,
    /// Deliveries that the subscription lost (a lease, a partition) before they were settled: another owner gets
    /// their messages.
    pub lost: u64,
    /// Deliveries not settled yet.
    pub in_flight: u64,
}

/// One writer, so an increment is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) acked: Counter,
    pub(super) nacked: Counter,
    pub(super) retried: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) rejected: Counter,
    pub(super) dropped: Counter,
    pub(super) lost: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(super) fn snapshot(&self) -> Counts {
        // Settled ones first: read in this order, what is in flight is never negative.
        let mut counts = Counts {
            acked: self.acked.get(),
            nacked: self.nacked.get(),
            retried: self.retried.get(),
            dead_lettered: self.dead_lettered.get(),
            rejected: self.rejected.get(),
            dropped: self.dropped.get(),
            lost: self.lost.get(),
            received: self.received.get(),
            in_flight: 0,
        };
        let settled = counts.acked
            + counts.nacked
            + counts.dead_lettered
            + counts.rejected
            + counts.dropped
            + counts.lost;
        counts.in_flight = counts.received.saturating_sub(settled);
        counts
    }
}

impl Counts {
    /// Adds those of another handler.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { received, acked, nacked, retried, dead_lettered, rejected, dropped, lost, in_flight } =
            other;
        self.received += received;
        self.acked += acked;
        self.nacked += nacked;
        self.retried += retried;
        self.dead_lettered += dead_lettered;
        self.rejected += rejected;
        self.dropped += dropped;
        self.lost += lost;
        self.in_flight += in_flight;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received, {} acked", self.received, self.acked)?;
        for (count, what) in [
            (self.nacked, "nacked"),
            (self.retried, "retried"),
            (self.dead_lettered, "dead-lettered"),
            (self.rejected, "rejected"),
            (self.dropped, "dropped"),
            (self.lost, "lost"),
            (self.in_flight, "in flight"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
