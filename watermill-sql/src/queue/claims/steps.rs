//! Steps whose acks are part of their transactions.

use std::sync::Arc;

use watermill_core::delivery::Token;

use super::Claims;
use crate::queue::{Queue, dialect::Claim};

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
