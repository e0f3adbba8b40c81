//! What is handed out next, and what becomes of it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watermill_core::{
    Window,
    backend::{Handed, Ledger, Offer, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

use super::{LogLedger, save::Unsaved};
use crate::{dead_letter::DeadLetter, settle::Rejected, stored::Stored};

impl Ledger for LogLedger {
    fn next(&mut self, now: Instant) -> Offer {
        self.take(now).map_or_else(Offer::Nothing, Offer::Handed)
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let sequence = token.position;
        let Some(row) = self.row(sequence).filter(|row| row.out && row.deliveries == token.delivery) else {
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return false;
        };
        row.out = false;
        let handled = std::mem::take(&mut row.handled);
        match outcome {
            _ if row.message.is_none() => return self.settle_joined(handled, receipt),
            Outcome::Ack => row.message = None,
            Outcome::Reject { reason } => {
                let (offset, attempts) = (row.position.offset, row.attempts);
                if let Some(message) = row.message.take() {
                    let dead_letter = DeadLetter { offset, message: message.message(), reason, attempts };
                    self.unsaved.rejected.push(Rejected::new(dead_letter, self.limits.dead_letters));
                }
            }
            // A delay too long to be added up is as good as a year.
            Outcome::Nack { delay } => self.nack(sequence, delay, now),
            _ => self.nack(sequence, Duration::ZERO, now),
        }
        self.out -= 1;
        self.handled -= usize::from(handled);
        // Of a nack, the attempt is recorded.
        self.unsaved.receipts.extend(receipt);
        if self.row(sequence).is_some_and(|row| row.message.is_none()) {
            self.note(now);
            self.pop_done();
        }
        true
    }

    fn give_back(&mut self, now: Instant) {
        for at in 0..self.rows.len() {
            let row = &mut self.rows[at];
            row.handled = false;
            if std::mem::take(&mut row.out) && row.message.is_some() {
                self.nacked.insert(self.first + at as u64, now);
            }
        }
        (self.out, self.handled) = (0, 0);
        self.pop_done();
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        self.first += self.rows.len() as u64;
        self.rows.clear();
        self.nacked.clear();
        (self.handed, self.fresh_bytes, self.out, self.handled) = (0, 0, 0, 0);
        (self.read_to_the_end, self.held_back, self.recorder) = (false, None, None);
        std::mem::take(&mut self.unsaved).receipts.fail(why);
    }

    fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    fn handled(&mut self, token: Token) -> bool {
        let Some(row) = self.row(token.position).filter(|row| row.out && row.deliveries == token.delivery)
        else {
            return false;
        };
        let first = !std::mem::replace(&mut row.handled, true);
        self.handled += usize::from(first);
        first
    }

    fn tokens(&self) -> Vec<Token> {
        // What a step has acked is not lost.
        let rows = self.rows.iter().zip(self.first..).filter(|(row, _)| row.out && row.message.is_some());
        rows.map(|(row, position)| Token { scope: 0, position, delivery: row.deliveries }).collect()
    }

    fn outstanding(&self) -> usize {
        self.out
    }

    /// A batch is fetched while another is handled.
    fn wants_more(&self) -> bool {
        self.fresh() < self.fetch_rows
            && self.fresh_bytes < self.limits.batch_bytes
            && self.rows.len() < self.rows_max()
    }

    fn unrecorded(&self) -> Unrecorded {
        let Unsaved { acks, since, receipts, .. } = &self.unsaved;
        Unrecorded { count: *acks, since: *since, awaited: !receipts.is_empty() }
    }

    /// Known where everything was read: what is in hand is all there is.
    fn lag(&self) -> Option<u64> {
        let unsettled = || self.rows.iter().filter(|row| row.message.is_some()).count() as u64;
        self.read_to_the_end.then(unsettled)
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.rows.front()?.published_at
    }
}

impl LogLedger {
    /// The nacked row that comes next: `Err` with the time it is due when that is later.
    fn next_nacked(&self, now: Instant) -> Option<Result<u64, Instant>> {
        let next = if self.window.is_ordered() {
            self.nacked.first_key_value()
        } else {
            self.nacked.iter().min_by_key(|(_, due)| **due)
        };
        next.map(|(sequence, due)| if *due <= now { Ok(*sequence) } else { Err(*due) })
    }

    /// The next row that the window lets out, or when there may be one.
    fn take(&mut self, now: Instant) -> Result<Handed, Option<Instant>> {
        if self.out - self.handled >= self.window.per_scope() || self.out >= self.window.total() {
            return Err(None);
        }
        let sequence = match self.next_nacked(now) {
            Some(Ok(sequence)) => {
                self.nacked.remove(&sequence);
                sequence
            }
            Some(Err(due)) if self.window.is_ordered() => return Err(Some(due)),
            later => {
                let fresh = self.next_fresh();
                self.starved |= fresh.is_none();
                fresh.ok_or(later.and_then(Result::err))?
            }
        };
        let unclear_up_to = self.unclear_up_to;
        let row = self.row(sequence).ok_or(None)?;
        let message = row.message.as_ref().ok_or(None)?.message();
        (row.out, row.handled) = (true, false);
        row.attempts = row.attempts.saturating_add(1);
        row.deliveries = row.deliveries.wrapping_add(1);
        let unclear = unclear_up_to.is_some_and(|unclear| row.position <= unclear);
        let handed = Handed::new(Token { scope: 0, position: sequence, delivery: row.deliveries }, message)
            .attempt(row.attempts)
            .redelivered(row.attempts > 1 || unclear)
            .published_at(row.published_at)
            .offset(Some(row.position.offset));
        self.out += 1;
        Ok(handed)
    }

    /// The sequence number of the next row that was never handed out and is not done.
    fn next_fresh(&mut self) -> Option<u64> {
        while self.rows.get(self.handed)?.message.is_none() {
            self.handed += 1;
        }
        self.fresh_bytes -= self.rows[self.handed].message.as_ref().map_or(0, Stored::bytes);
        self.handed += 1;
        Some(self.first + self.handed as u64 - 1)
    }

    fn nack(&mut self, sequence: u64, delay: Duration, now: Instant) {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.nacked.insert(sequence, now + delay.min(YEAR));
        self.unsaved.since.get_or_insert(now);
    }
}
