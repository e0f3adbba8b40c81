//! [`Task`]: says when a subscription's background task has ended.

use std::{fmt, sync::Arc};

use super::Shared;
use crate::backend::Ledger;

/// What [`Shared::task`] returns.
#[must_use = "dropped, it ends the subscription"]
pub struct Task<L: Ledger> {
    pub(super) shared: Arc<Shared<L>>,
    pub(super) result: Option<Result<(), String>>,
}

impl<L: Ledger> Task<L> {
    /// The task has ended by itself. An error says why settlements may not be recorded, and is what closing
    /// the subscription fails with.
    pub fn end(mut self, result: Result<(), String>) {
        self.result = Some(result);
    }
}

impl<L: Ledger> Drop for Task<L> {
    fn drop(&mut self) {
        let panicked_or_aborted = || Err("its task has ended before".to_owned());
        self.shared.task_ended(self.result.take().unwrap_or_else(panicked_or_aborted));
    }
}

impl<L: Ledger> fmt::Debug for Task<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("shared", &self.shared).finish_non_exhaustive()
    }
}
