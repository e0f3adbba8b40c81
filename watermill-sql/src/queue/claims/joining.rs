//! [`Joining`]: acks that are part of handlers' transactions.

use std::{collections::HashSet, sync::Arc};

use crate::queue::Queue;

/// What a transaction of a handler needs to know to ack, and which rows were acked so.
#[derive(Debug, Default)]
pub(super) struct Joining {
    pub(super) queue: Option<Arc<Queue>>,
    /// Rows that are done with, and whose settlements are not heard yet.
    pub(super) done: HashSet<u64>,
}

impl Joining {
    pub(super) fn is_done(&self, sequence: u64) -> bool {
        self.done.contains(&sequence)
    }

    pub(super) fn take(&mut self, sequence: u64) -> bool {
        self.done.remove(&sequence)
    }

    pub(super) fn clear(&mut self) {
        self.done.clear();
    }
}
