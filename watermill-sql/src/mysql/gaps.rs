//! [`Gaps`]: which missing offsets will never have a row.
//!
//! A missing offset below one that is there is either being written or void. Its offset was drawn by a
//! statement that began before the higher row could be seen, and drawing and inserting happen inside
//! that one statement. So once every statement has ended that was running when the gap was seen, its row
//! is either locked by its open transaction, or there, or will never be: a probe tells.

use std::collections::BTreeSet;

use tokio::time::Instant;

/// A statement that runs: the connection and a number that no other statement of it has.
pub(crate) type Statement = (i64, i64);

/// Missing offsets, both ends included.
pub(crate) type Gap = (i64, i64);

/// What a probe of a gap has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Probed {
    Empty,
    /// One that was committed since the gap was seen.
    Row,
    /// One of a transaction that is open.
    Locked,
}

/// What is known about gaps. A state machine without I/O.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Gaps {
    /// Gaps that will never have rows, above the position.
    void: Vec<Gap>,
    /// Whatever is missing up to here will never have rows.
    decided: i64,
    wave: Option<Wave>,
}

/// Gaps that were seen together, and so age together.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Wave {
    /// Gaps above this are looked at later.
    up_to: i64,
    /// Those that were running when the gaps were seen, and have not ended.
    running: BTreeSet<Statement>,
    /// Since when no gap of it was seen to be locked.
    quiet_since: Instant,
}

impl Gaps {
    /// The gaps between a position and the rows after it that may yet have rows.
    pub(crate) fn undecided(&self, after: i64, offsets: impl IntoIterator<Item = i64>) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let mut before = after.max(self.decided);
        for offset in offsets {
            let mut from = before.saturating_add(1);
            for &(first, last) in self.void.iter().filter(|(first, last)| *last > before && *first < offset) {
                if from < first {
                    gaps.push((from, first - 1));
                }
                from = last + 1;
            }
            if from < offset {
                gaps.push((from, offset - 1));
            }
            before = before.max(offset);
        }
        gaps
    }

    /// Somebody else who reads in the same order has come so far: what was missing for it then is missing for good, and what
    /// was not is seen by whoever reads from now on.
    pub(crate) fn note_decided(&mut self, up_to: i64) {
        self.decided = self.decided.max(up_to);
    }

    /// Forgets how far others have come.
    pub(crate) fn forget_decided(&mut self) {
        self.decided = 0;
    }

    /// Takes note of the statements that run now. The first call for new gaps begins their wave.
    pub(crate) fn note_running(&mut self, up_to: i64, running: BTreeSet<Statement>, now: Instant) {
        match &mut self.wave {
            Some(wave) => wave.running.retain(|statement| running.contains(statement)),
            None => self.wave = Some(Wave { up_to, running, quiet_since: now }),
        }
    }

    /// Whether gaps are being looked at.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wave.is_some()
    }

    /// A statement that was running when the gaps were seen and still is.
    pub(crate) fn running(&self) -> Option<Statement> {
        self.wave.as_ref()?.running.first().copied()
    }

    /// Since when no gap of the wave was seen to be locked.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        self.wave.as_ref().map(|wave| wave.quiet_since)
    }

    /// Which of these gaps belong to the wave.
    pub(crate) fn of_wave(&self, gaps: &[Gap]) -> Vec<Gap> {
        let up_to = self.wave.as_ref().map_or(0, |wave| wave.up_to);
        gaps.iter().copied().filter(|(_, last)| *last < up_to).collect()
    }

    /// Takes note of what probes of the wave's gaps have found, after all its statements had ended.
    /// Returns whether rows have appeared.
    pub(crate) fn note_probes(&mut self, probes: &[(Gap, Probed)], now: Instant) -> bool {
        let mut appeared = false;
        let mut locked = false;
        for (gap, probed) in probes {
            match probed {
                Probed::Empty => self.void.push(*gap),
                Probed::Row => appeared = true,
                Probed::Locked => locked = true,
            }
        }
        self.void.sort_unstable();
        match &mut self.wave {
            Some(wave) if locked => wave.quiet_since = now,
            _ => self.wave = None,
        }
        appeared
    }

    /// Takes note of probes that decide nothing yet.
    pub(crate) fn note_early_probes(&mut self, probes: &[(Gap, Probed)], now: Instant) {
        if let Some(wave) = &mut self.wave
            && probes.iter().any(|(_, probed)| *probed != Probed::Empty)
        {
            wave.quiet_since = now;
        }
    }

    /// Nothing is undecided.
    pub(crate) fn clear(&mut self, after: i64) {
        self.wave = None;
        self.forget_up_to(after);
    }

    /// Forgets what the position has passed.
    pub(crate) fn forget_up_to(&mut self, after: i64) {
        self.void.retain(|(_, last)| *last > after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(ids: &[i64]) -> BTreeSet<Statement> {
        ids.iter().map(|id| (*id, 1)).collect()
    }

    #[test]
    fn gaps_are_what_is_missing_between_the_position_and_the_rows() {
        let gaps = Gaps::default();
        assert_eq!(gaps.undecided(3, [4, 5, 6]), []);
        assert_eq!(gaps.undecided(3, [6, 7, 10]), [(4, 5), (8, 9)]);
        assert_eq!(gaps.undecided(3, []), []);
    }

    #[test]
    fn a_gap_is_void_when_it_is_empty_after_the_statements_of_its_time_have_ended() {
        let now = Instant::now();
        let mut gaps = Gaps::default();
        gaps.note_running(10, running(&[1, 2]), now);
        assert_eq!(gaps.running(), Some((1, 1)));
        gaps.note_running(12, running(&[2, 3]), now);
        gaps.note_running(12, running(&[3, 4]), now);
        assert_eq!(gaps.running(), None, "later statements do not count");
        assert_eq!(gaps.of_wave(&[(4, 5), (8, 9), (11, 11)]), [(4, 5), (8, 9)]);
        assert!(!gaps.note_probes(&[((4, 5), Probed::Empty), ((8, 9), Probed::Empty)], now));
        assert!(!gaps.is_waiting());
        assert_eq!(gaps.undecided(3, [6, 7, 10, 12]), [(11, 11)]);
    }

    #[test]
    fn a_locked_gap_stays_and_those_beside_it_are_decided() {
        let now = Instant::now();
        let mut gaps = Gaps::default();
        gaps.note_running(10, running(&[]), now);
        gaps.note_probes(&[((4, 5), Probed::Locked), ((8, 9), Probed::Empty)], now);
        assert!(gaps.is_waiting());
        assert_eq!(gaps.undecided(3, [6, 7, 10]), [(4, 5)]);
        assert!(gaps.note_probes(&[((4, 5), Probed::Row)], now));
    }

    #[test]
    fn what_another_reader_has_passed_is_decided_and_no_more() {
        let mut gaps = Gaps::default();
        gaps.note_decided(6);
        assert_eq!(gaps.undecided(3, [4, 9, 11]), [(7, 8), (10, 10)]);
        gaps.note_decided(2);
        assert_eq!(gaps.undecided(8, [10]), [(9, 9)]);
        assert_eq!(gaps.undecided(3, [5]), []);
        gaps.forget_decided();
        assert_eq!(gaps.undecided(3, [5]), [(4, 4)]);
    }

    #[test]
    fn a_part_of_a_gap_that_is_void_is_not_looked_at_again() {
        let mut gaps = Gaps::default();
        gaps.note_running(10, running(&[]), Instant::now());
        gaps.note_probes(&[((5, 6), Probed::Empty)], Instant::now());
        assert_eq!(gaps.undecided(3, [10]), [(4, 4), (7, 9)]);
        gaps.forget_up_to(6);
        assert_eq!(gaps.undecided(4, [10]), [(5, 9)]);
    }
}
