//! What is recorded of the rows, and kept until it is.

use tokio::time::Instant;

use super::{
    LogLedger, Row,
    save::{Save, Unsaved},
};
use crate::log::progress::Progress;

impl LogLedger {
    /// Whether there is anything to record before the lease is given back, attempts included.
    pub(crate) fn has_unsaved(&self) -> bool {
        self.unsaved.since.is_some() || !self.nacked.is_empty()
    }

    /// What is to be recorded now.
    pub(crate) fn save(&mut self) -> Save {
        self.save_as_if(|_| false)
    }

    /// The same if rows with some sequence numbers were done, too.
    pub(super) fn save_as_if(&mut self, done: impl Fn(u64) -> bool) -> Save {
        let is_done = |(row, sequence): &(&Row, u64)| row.message.is_none() || done(*sequence);
        // More than are popped: what steps have acked stays until it is settled.
        let passed = self.rows.iter().zip(self.first..).take_while(is_done).count();
        let position = passed.checked_sub(1).map_or(self.position, |last| self.rows[last].position);
        let progress = self.progress(passed, done);
        let stores_progress = !progress.is_empty();
        let replace = stores_progress || self.stored_progress;
        let Unsaved { acks, since, receipts, rejected, passed } = std::mem::take(&mut self.unsaved);
        Save {
            position,
            progress: replace.then(|| progress.encode(position)),
            rejected,
            passed,
            acks,
            since,
            receipts,
            stores_progress,
        }
    }

    /// It was recorded.
    pub(crate) fn saved(&mut self, save: Save) {
        self.stored_progress = save.stores_progress;
        save.receipts.recorded();
    }

    /// It was not recorded, and is to be tried again: it is due as it was, however often others try in vain.
    pub(crate) fn keep(&mut self, save: Save, now: Instant) {
        let mut later = std::mem::take(&mut self.unsaved);
        let (mut receipts, mut rejected, mut passed) = (save.receipts, save.rejected, save.passed);
        receipts.extend(later.receipts);
        rejected.append(&mut later.rejected);
        passed.append(&mut later.passed);
        let since = save.since.or(later.since).or(Some(now));
        self.unsaved = Unsaved { acks: save.acks + later.acks, since, receipts, rejected, passed };
    }

    /// Behind so many rows, if some more were done.
    fn progress(&self, passed: usize, done: impl Fn(u64) -> bool) -> Progress {
        let mut progress = Progress::default();
        for (row, sequence) in self.rows.iter().zip(self.first..).skip(passed) {
            match row.message {
                None => progress.push_done(row.position),
                Some(_) if done(sequence) => progress.push_done(row.position),
                Some(_) if row.attempts > 1 || self.nacked.contains_key(&sequence) => {
                    progress.attempts.push((row.position, row.attempts));
                }
                Some(_) => {}
            }
        }
        progress.ahead.extend(&self.inherited.ahead);
        progress.attempts.extend(&self.inherited.attempts);
        progress
    }

    pub(super) fn note(&mut self, now: Instant) {
        self.unsaved.acks += 1;
        self.unsaved.since.get_or_insert(now);
    }
}
