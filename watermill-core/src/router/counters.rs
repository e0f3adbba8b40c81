//! Counts of one handler: written by its worker alone, read by anyone.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::error::{Panicked, Permanent, PublishError, find};

/// What happened to the messages of a handler so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Deliveries taken from the subscription.
    pub received: u64,
    /// Those of them that had been delivered before, as far as the backend or this process can tell.
    pub redelivered: u64,
    /// Deliveries acked after the handler succeeded and its outputs were accepted.
    pub acked: u64,
    /// Deliveries given back: they come again.
    pub nacked: u64,
    /// Tries in place after the first.
    pub retried: u64,
    /// Tries that ended in a panic, of the handler, of a layer or of the publisher of its outputs.
    pub panicked: u64,
    /// Deliveries published to a dead-letter topic, and acked.
    pub dead_lettered: u64,
    /// Deliveries published to a [retry topic](crate::RetryTopics), and acked: their messages come again from there.
    pub postponed: u64,
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

/// Why a message was dead-lettered, in one word, and as many words as there are variants: a figure may be kept by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It panicked.
    Panic,
    /// What it is made of cannot be handled: [`Permanent`].
    Permanent,
    /// Its outputs were not accepted.
    Publish,
    /// Any other error.
    Other,
}

/// One writer, so an increment is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) redelivered: Counter,
    pub(super) acked: Counter,
    pub(super) nacked: Counter,
    pub(super) retried: Counter,
    pub(super) panicked: Counter,
    /// By [`Reason`].
    dead_lettered: [Counter; Reason::ALL.len()],
    pub(super) postponed: Counter,
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

impl Reason {
    const ALL: [Self; 4] = [Self::Panic, Self::Permanent, Self::Publish, Self::Other];

    /// Of the last error of a message.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        if find::<Panicked>(error).is_some() {
            Self::Panic
        } else if find::<PublishError>(error).is_some() {
            Self::Publish
        } else if Permanent::is(error) {
            Self::Permanent
        } else {
            Self::Other
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Permanent => "permanent",
            Self::Publish => "publish",
            Self::Other => "error",
        }
    }
}

impl Counters {
    pub(super) fn dead_lettered(&self, reason: Reason) -> &Counter {
        &self.dead_lettered[reason as usize]
    }

    /// How many were dead-lettered, by why.
    pub(super) fn dead_letter_reasons(&self) -> BTreeMap<&'static str, u64> {
        let counted = Reason::ALL.map(|reason| (reason.word(), self.dead_lettered(reason).get()));
        counted.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn snapshot(&self) -> Counts {
        // Settled ones first: read in this order, what is in flight is never negative.
        let mut counts = Counts {
            acked: self.acked.get(),
            nacked: self.nacked.get(),
            retried: self.retried.get(),
            panicked: self.panicked.get(),
            dead_lettered: self.dead_lettered.iter().map(Counter::get).sum(),
            postponed: self.postponed.get(),
            rejected: self.rejected.get(),
            dropped: self.dropped.get(),
            lost: self.lost.get(),
            redelivered: self.redelivered.get(),
            received: self.received.get(),
            in_flight: 0,
        };
        let settled = counts.acked
            + counts.nacked
            + counts.dead_lettered
            + counts.postponed
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
        let Self {
            received,
            redelivered,
            acked,
            nacked,
            retried,
            panicked,
            dead_lettered,
            postponed,
            rejected,
            dropped,
            lost,
            in_flight,
        } = other;
        self.received += received;
        self.redelivered += redelivered;
        self.panicked += panicked;
        self.acked += acked;
        self.nacked += nacked;
        self.retried += retried;
        self.dead_lettered += dead_lettered;
        self.postponed += postponed;
        self.rejected += rejected;
        self.dropped += dropped;
        self.lost += lost;
        self.in_flight += in_flight;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received, {} acked", self.received, self.acked)?;
        // What became of deliveries; that some came again, or panicked on the way, is said in the fields.
        for (count, what) in [
            (self.nacked, "nacked"),
            (self.retried, "retried"),
            (self.dead_lettered, "dead-lettered"),
            (self.postponed, "postponed"),
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
