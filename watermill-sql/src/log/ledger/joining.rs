//! Acks that are part of the transactions of steps: recorded before they are settled.

use std::sync::Arc;

use tokio::time::Instant;
use watermill_core::{
    delivery::{Receipt, Token},
    error::SettleError,
};

use super::{LogLedger, Save};
use crate::log::recorder::{Recorder, Recording};

impl LogLedger {
    /// Steps may ack what is handed out in this term.
    pub(crate) fn acks_join(&mut self, recorder: Arc<Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Who records the ack of a delivery. `Err` with the reason why a step cannot, or with none for a delivery that is not
    /// ours any more.
    pub(crate) fn joinable(&self, token: Token) -> Result<Arc<Recorder>, Option<&'static str>> {
        if self.limits.tells_passed {
            return Err(Some(
                "joins_ack: the rows are of a table that is not Watermill's; without it a mark is kept",
            ));
        }
        self.recorder.clone().filter(|_| self.is_out(token)).ok_or(None)
    }

    /// What is to be recorded when these deliveries are acked with it; `None` where one of them is not ours any more.
    pub(crate) fn save_with(&mut self, tokens: &[Token]) -> Option<Save> {
        let are_out = tokens.iter().all(|token| self.is_out(*token));
        are_out.then(|| self.save_as_if(|sequence| tokens.iter().any(|token| token.position == sequence)))
    }

    /// It is recorded: whatever becomes of their settlements, they are done. True where some of them will not be settled any
    /// more, so that nothing else tells who waits for them.
    pub(crate) fn joined(
        &mut self,
        recorder: &Arc<Recorder>,
        recording: &mut Recording,
        save: Save,
        tokens: &[Token],
    ) -> bool {
        let is_over = !self.is_recorded_by(recorder);
        recorder.committed(recording, self, save);
        if is_over {
            return false;
        }
        let mut is_news = false;
        for token in tokens {
            self.nacked.remove(&token.position);
            if let Some(row) = self.row(token.position) {
                row.message = None;
                is_news |= !row.out;
            }
        }
        self.pop_done();
        if is_news {
            recorder.leaves();
        }
        is_news
    }

    /// It is not recorded by this step, and is to be tried again without its acks.
    pub(crate) fn not_joined(&mut self, recorder: &Arc<Recorder>, save: Save) {
        match self.is_recorded_by(recorder) {
            true => {
                self.keep(save, Instant::now());
                recorder.leaves();
            }
            // Of a term that is over, nothing will be.
            false => save.receipts.fail(SettleError::lost),
        }
    }

    /// Whatever the outcome, a step has acked it, and that is recorded.
    pub(super) fn settle_joined(&mut self, handled: bool, receipt: Option<Receipt>) -> bool {
        self.out -= 1;
        self.handled -= usize::from(handled);
        self.pop_done();
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
        true
    }

    fn is_recorded_by(&self, recorder: &Arc<Recorder>) -> bool {
        self.recorder.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, recorder))
    }

    fn is_out(&self, token: Token) -> bool {
        let at = token.position.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.rows.get(at))
            .is_some_and(|row| row.out && row.deliveries == token.delivery && row.message.is_some())
    }
}
