//! [`ForwarderReport`]: what a forwarder did.

use std::collections::BTreeMap;

/// What a forwarder did from its start to its stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwarderReport {
    /// Messages that their destinations accepted.
    pub forwarded: u64,
    /// Messages that went to the dead-letter topic, those that were no envelopes included.
    pub dead_lettered: u64,
    /// Messages that were no envelopes and were acked, as the configuration asked for.
    pub dropped: u64,
    /// Messages that the source delivered again although a [`FencedForwarder`](crate::FencedForwarder) had
    /// published them: they were acked and not published twice.
    pub repeated: u64,
    /// Messages that were in hand at the end and not forwarded. The source has them still.
    pub returned: u64,
    /// The same by destination, for the first [`DESTINATIONS_MAX`](Self::DESTINATIONS_MAX) of them.
    pub destinations: BTreeMap<String, DestinationReport>,
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

    pub(crate) fn count(&mut self, destination: Option<&str>, forwarded: u64, dead_lettered: u64) {
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
}
