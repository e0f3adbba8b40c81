//! [`Save`]: what is settled, on its way to the database.

use tokio::time::Instant;
use watermill_core::backend::Receipts;

use crate::{position::Position, settle::Rejected};

/// What is settled and not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) acks: usize,
    pub(super) since: Option<Instant>,
    pub(super) receipts: Receipts,
    pub(super) rejected: Vec<Rejected>,
    pub(super) passed: Vec<i64>,
}

/// What is to be recorded in one go. Given back with [`LogLedger::keep`] when that fails.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) position: Position,
    /// `None` when the stored one may stay as it is.
    pub(crate) progress: Option<String>,
    pub(crate) rejected: Vec<Rejected>,
    /// The offsets that the position has passed since the last one that was recorded, if they are to be known.
    pub(crate) passed: Vec<i64>,
    pub(super) acks: usize,
    pub(super) since: Option<Instant>,
    pub(super) receipts: Receipts,
    pub(super) stores_progress: bool,
}
