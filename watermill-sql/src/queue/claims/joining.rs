//! [`Joining`]: acks that are part of handlers' transactions.

use std::{collections::HashSet, sync::Arc};

use watermill_core::delivery::Token;

use super::{Claim, Claims};
use crate::queue::Queue;

/// What a transaction of a handler needs to know to ack, and which rows were acked so.
#[derive(Debug, Default)]
pub(super) struct Joining {
    queue: Option<Arc<Queue>>,
    /// Rows that are done with, and whose settlements are not heard yet.
    done: HashSet<u64>,
}

impl Claims {
    /// Acks may join transactions, of which this is the queue.
    pub(crate) fn acks_join(&mut self, queue: Arc<Queue>) {
        self.joining.queue = Some(queue);
    }

    /// What a transaction acks. `Err` with the reason why acks of this queue cannot join, or with none for a row that is
    /// not ours any more.
    pub(crate) fn joinable(&self, token: Token) -> Result<(Arc<Queue>, Claim), Option<&'static str>> {
        let queue = self.joining.queue.clone().ok_or(None::<&str>)?;
        if queue.ordered {
            return Err(Some(
                "joins_ack: the queue is in order by key, whose next message is let go when the ack is recorded; \
                 without it a mark is kept",
            ));
        }
        if queue.tables.mapping().is_some() {
            return Err(Some(
                "joins_ack: the rows are of a table that is not Watermill's; without it a mark is kept",
            ));
        }
        let held = self.rows.get(&token.position).filter(|held| held.out).ok_or(None::<&str>)?;
        Ok((queue, held.claim))
    }

    /// A transaction has acked the row, and was committed.
    pub(crate) fn joined(&mut self, token: Token) {
        if self.rows.contains_key(&token.position) {
            self.joining.done.insert(token.position);
        }
    }
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
