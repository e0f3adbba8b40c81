//! [`Unsaved`]: what is settled and not recorded yet, and [`Save`]: what is recorded in one go.

use tokio::time::Instant;
use watermill_core::backend::{Receipts, Unrecorded};

use crate::{position::Position, settle::Rejected};

/// What is settled and not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    acks: usize,
    since: Option<Instant>,
    pub(super) receipts: Receipts,
    pub(super) rejected: Vec<Rejected>,
}

/// What is to be recorded in one go. Given back with [`LogLedger::keep`](super::LogLedger::keep) when that fails.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) position: Position,
    /// `None` when the stored one may stay as it is.
    pub(crate) progress: Option<String>,
    pub(crate) rejected: Vec<Rejected>,
    acks: usize,
    receipts: Receipts,
}

impl Unsaved {
    /// A row is done.
    pub(super) fn note_done(&mut self, now: Instant) {
        self.acks += 1;
        self.note(now);
    }

    /// There is something to record.
    pub(super) fn note(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    pub(super) fn unrecorded(&self) -> Unrecorded {
        Unrecorded { count: self.acks, since: self.since, awaited: !self.receipts.is_empty() }
    }

    /// Takes all of it, to be recorded with a position and with what goes beside that.
    pub(super) fn save(&mut self, position: Position, progress: Option<String>) -> Save {
        let Self { acks, receipts, rejected, .. } = std::mem::take(self);
        Save { position, progress, rejected, acks, receipts }
    }

    /// Takes back what was not recorded, before what has come since.
    pub(super) fn keep(&mut self, save: Save, now: Instant) {
        let Save { mut receipts, mut rejected, acks, .. } = save;
        let mut later = std::mem::take(self);
        receipts.extend(later.receipts);
        rejected.append(&mut later.rejected);
        *self = Self { acks: acks + later.acks, since: Some(now), receipts, rejected };
    }
}

impl Save {
    /// Whether something is stored beside the position after this, if nothing was before.
    pub(super) fn stores_progress(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| !progress.is_empty())
    }

    /// It was recorded.
    pub(super) fn recorded(self) {
        self.receipts.recorded();
    }
}
