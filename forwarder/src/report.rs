//! [`ForwarderReport`]: what a forwarder did.

use std::collections::BTreeMap;

use watermill_core::error::{PublishError, PublishErrorKind};

use crate::OutboxTime;

/// What a forwarder did from its start to its stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwarderReport {
    /// Messages that their destinations accepted.
    pub forwarded: u64,
    /// Messages that went to the dead-letter topic, those that were no envelopes included.
    pub dead_lettered: u64,
    /// The same by the kind of the last error: `message`, `refused`, `unsupported` and so on, and `unreadable` for what was no
    /// envelope.
    pub dead_letter_reasons: BTreeMap<&'static str, u64>,
    /// Messages that were no envelopes and were acked, as the configuration asked for.
    pub dropped: u64,
    /// Messages that the source delivered again although a [`FencedForwarder`](crate::FencedForwarder) had
    /// published them: they were acked and not published twice.
    pub repeated: u64,
    /// Messages that were in hand at the end and not forwarded. The source has them still.
    pub returned: u64,
    /// Whether its stop was over before everything was that it waited for: a call had no answer by then.
    pub cut_short: bool,
    /// What was forwarded and dead-lettered by destination, for the first [`DESTINATIONS_MAX`](Self::DESTINATIONS_MAX) of them.
    pub destinations: BTreeMap<String, DestinationReport>,
    /// How long messages were in the outbox until their destinations accepted them.
    pub outbox: OutboxTime,
}

/// What became of the messages for one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationReport {
    /// Messages that the destination accepted.
    pub forwarded: u64,
    /// Messages that went to the dead-letter topic instead.
    pub dead_lettered: u64,
}

impl ForwarderReport {
    /// How many destinations are counted one by one. Who names topics after tenants may have more;
    /// those are in the totals only.
    pub const DESTINATIONS_MAX: usize = 1000;

    /// Adds what another has done.
    pub(crate) fn add(&mut self, other: &Self) {
        self.dropped += other.dropped;
        self.repeated += other.repeated;
        self.returned += other.returned;
        self.cut_short |= other.cut_short;
        self.outbox.add(&other.outbox);
        for (reason, messages) in &other.dead_letter_reasons {
            *self.dead_letter_reasons.entry(reason).or_default() += messages;
        }
        let (mut forwarded, mut dead_lettered) = (other.forwarded, other.dead_lettered);
        for (destination, counted) in &other.destinations {
            self.count(Some(destination), counted.forwarded, counted.dead_lettered);
            forwarded -= counted.forwarded;
            dead_lettered -= counted.dead_lettered;
        }
        self.count(None, forwarded, dead_lettered);
    }

    /// Counts messages that their destination has accepted.
    pub(crate) fn accepted(&mut self, destination: Option<&str>, messages: u64) {
        self.count(destination, messages, 0);
    }

    /// Counts messages that were given up, by why.
    pub(crate) fn gave_up(&mut self, destination: Option<&str>, messages: u64, reason: &'static str) {
        if messages > 0 {
            *self.dead_letter_reasons.entry(reason).or_default() += messages;
        }
        self.count(destination, 0, messages);
    }

    fn count(&mut self, destination: Option<&str>, forwarded: u64, dead_lettered: u64) {
        self.forwarded += forwarded;
        self.dead_lettered += dead_lettered;
        let Some(destination) = destination else { return };
        if let Some(counted) = self.destinations.get_mut(destination) {
            counted.forwarded += forwarded;
            counted.dead_lettered += dead_lettered;
        } else if self.destinations.len() < Self::DESTINATIONS_MAX {
            self.destinations.insert(destination.to_owned(), DestinationReport { forwarded, dead_lettered });
        }
    }
}

/// The word for why a message was given up; without an error it was no envelope.
pub(crate) fn reason(error: Option<&PublishError>) -> &'static str {
    match error.map(PublishError::kind) {
        None => "unreadable",
        Some(PublishErrorKind::Message) => "message",
        Some(PublishErrorKind::Topic) => "topic",
        Some(PublishErrorKind::Refused) => "refused",
        Some(PublishErrorKind::Unsupported) => "unsupported",
        Some(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_beyond_the_bound_count_in_the_totals_only() {
        let mut report = ForwarderReport::default();
        for tenant in 0..=ForwarderReport::DESTINATIONS_MAX {
            report.count(Some(&format!("tenant-{tenant:04}")), 1, 0);
        }
        report.count(Some("tenant-0000"), 2, 1);
        assert_eq!(report.destinations.len(), ForwarderReport::DESTINATIONS_MAX);
        assert_eq!(report.forwarded, 1003);
        assert_eq!(report.destinations["tenant-0000"], DestinationReport { forwarded: 3, dead_lettered: 1 });
    }

    #[test]
    fn what_several_have_done_is_added_up() {
        let mut report = ForwarderReport { returned: 1, ..ForwarderReport::default() };
        report.accepted(Some("orders"), 2);
        let mut other = report.clone();
        other.gave_up(None, 3, "unreadable");
        report.add(&other);
        assert_eq!((report.forwarded, report.dead_lettered, report.returned), (4, 3, 2));
        assert_eq!(report.destinations["orders"].forwarded, 4);
        assert_eq!(report.dead_letter_reasons["unreadable"], 3);
    }

    #[test]
    fn what_was_given_up_is_counted_by_why() {
        let mut report = ForwarderReport::default();
        report.gave_up(
            Some("orders"),
            2,
            reason(Some(&PublishError::new(PublishErrorKind::Message, "orders"))),
        );
        report.gave_up(None, 1, reason(None));
        report.gave_up(Some("orders"), 0, "refused");
        assert_eq!(report.dead_lettered, 3);
        assert_eq!(report.dead_letter_reasons, BTreeMap::from([("message", 2), ("unreadable", 1)]));
    }
}
