//! [`LogLedger`]: the rows in hand, from the oldest unsettled one on. A state machine without I/O or
//! clock.
//!
//! A row is fetched, handed out, and settled: done, or nacked and due again later. What is done from
//! the front on moves the position; what is done behind an unsettled row is kept as
//! [`Progress::ahead`].

mod joining;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watermill_core::{
    Message, Window,
    backend::{Handed, Ledger, Offer, Receipts, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

use super::{HeldBack, progress::Progress, recorder::Recorder};
use crate::{dead_letter::DeadLetter, position::Position, settle::Rejected, stored::Stored};

/// The rows of one term of ownership.
#[derive(Debug)]
pub(crate) struct LogLedger {
    /// In the order of their positions. The sequence number of `rows[i]` is `first + i`; it names the row
    /// in tokens, is never used twice by a subscription, and so tells terms of ownership apart.
    rows: VecDeque<Row>,
    first: u64,
    /// `rows[..handed]` have been handed out at least once, or need not be.
    handed: usize,
    /// What those that have not take in memory.
    fresh_bytes: usize,
    /// How many rows one fetch is to bring.
    fetch_rows: usize,
    /// Whether the stream was ready for a row that was not there.
    starved: bool,
    /// How many are handed out and unsettled.
    out: usize,
    /// How many of those are handled and wait for their outputs.
    handled: usize,
    /// Nacked rows, and when they are due.
    nacked: BTreeMap<u64, Instant>,
    window: Window,
    /// Every row up to here is done.
    position: Position,
    /// Every row up to here has been fetched.
    read: Position,
    /// What owners before have left for rows not yet fetched.
    inherited: Progress,
    unclear_up_to: Option<Position>,
    unsaved: Unsaved,
    /// Whether the progress that is stored may have to be replaced.
    stored_progress: bool,
    /// Whether nothing was left to fetch at the last fetch, as far as is known.
    pub(crate) read_to_the_end: bool,
    /// Who keeps the reader from reading on.
    pub(crate) held_back: Option<HeldBack>,
    /// Who records in this term, where steps may ack.
    recorder: Option<Arc<Recorder>>,
    limits: Limits,
}

/// What bounds a ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What one fetch brings, and more where handlers are quicker than fetches. More is fetched when fewer rows than that
    /// are fresh: a batch while another is handled.
    pub(crate) batch_size: usize,
    /// And fewer bytes than this.
    pub(crate) batch_bytes: usize,
    /// How many rows may be in memory from the oldest unsettled one on, or a batch more than may be
    /// handled at once where that is larger.
    pub(crate) max_ahead: usize,
    /// Whether rejected messages are kept.
    pub(crate) dead_letters: bool,
    /// Whether what the position passes is to be known row by row.
    pub(crate) tells_passed: bool,
}

#[derive(Debug)]
struct Row {
    position: Position,
    /// `None` once the row is done. Where a step has acked it, that is before it is settled.
    message: Option<Stored>,
    published_at: Option<SystemTime>,
    /// How often it has been handed out.
    attempts: u32,
    out: bool,
    handled: bool,
    /// How often this subscription has handed it out.
    deliveries: u32,
    /// Whether another shard's reader sees to it.
    foreign: bool,
}

/// What is settled and not recorded yet.
#[derive(Debug, Default)]
struct Unsaved {
    acks: usize,
    since: Option<Instant>,
    receipts: Receipts,
    rejected: Vec<Rejected>,
    passed: Vec<i64>,
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
    acks: usize,
    since: Option<Instant>,
    receipts: Receipts,
    stores_progress: bool,
}

impl LogLedger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            rows: VecDeque::new(),
            first: 1,
            handed: 0,
            fresh_bytes: 0,
            fetch_rows: limits.batch_size,
            starved: false,
            out: 0,
            handled: 0,
            nacked: BTreeMap::new(),
            window: Window::ONE,
            position: Position::default(),
            read: Position::default(),
            inherited: Progress::default(),
            unclear_up_to: None,
            unsaved: Unsaved::default(),
            stored_progress: false,
            read_to_the_end: false,
            held_back: None,
            recorder: None,
            limits,
        }
    }

    /// Begins a term of ownership at a position, with what the owners before have left.
    pub(crate) fn begin(&mut self, position: Position, inherited: Progress, unclear_up_to: Option<Position>) {
        self.lose(SettleError::lost);
        (self.position, self.read) = (position, position);
        self.stored_progress = !inherited.is_empty();
        (self.inherited, self.unclear_up_to) = (inherited, unclear_up_to);
    }

    /// Adds the next row that was fetched.
    pub(crate) fn push(&mut self, position: Position, message: Stored, published_at: Option<SystemTime>) {
        let done = self.inherited.is_done(position);
        self.push_row(position, (!done).then_some(message), published_at, false);
    }

    /// Adds the next row that was fetched, which cannot be delivered: it is done with, and moved to
    /// the dead-letter topic.
    pub(crate) fn push_dead(&mut self, position: Position, message: Message, reason: String, now: Instant) {
        if !self.inherited.is_done(position) {
            let dead_letter = DeadLetter { offset: position.offset, message, reason, attempts: 0 };
            self.unsaved.rejected.push(Rejected::Kept(dead_letter));
            self.note(now);
        }
        self.push_row(position, None, None, false);
    }

    /// Adds a place where nothing is for us: the row there, if there is one, is another shard's.
    pub(crate) fn push_foreign(&mut self, position: Position) {
        self.push_row(position, None, None, true);
    }

    /// Whether everything that was fetched is done.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lets go of what was never handed out, to be fetched again by whoever is next.
    pub(crate) fn drop_fresh(&mut self) {
        let dropped = self.rows.split_off(self.handed);
        self.fresh_bytes = 0;
        self.read = self.rows.back().map_or(self.position, |last| last.position);
        self.read_to_the_end &= dropped.is_empty();
        let mut inherited = Progress::default();
        for row in dropped {
            if row.message.is_none() && !row.foreign {
                inherited.push_done(row.position);
            }
            if row.attempts > 0 {
                inherited.attempts.push((row.position, row.attempts));
            }
        }
        inherited.ahead.append(&mut self.inherited.ahead);
        inherited.attempts.append(&mut self.inherited.attempts);
        self.inherited = inherited;
    }

    /// Adds a row, with its message unless it is done.
    fn push_row(
        &mut self,
        position: Position,
        message: Option<Stored>,
        published_at: Option<SystemTime>,
        foreign: bool,
    ) {
        self.read = position;
        self.fresh_bytes += message.as_ref().map_or(0, Stored::bytes);
        let attempts = self.inherited.attempts(position);
        if message.is_none() && self.handed == self.rows.len() {
            self.handed += 1;
        }
        self.rows.push_back(Row {
            position,
            message,
            published_at,
            attempts,
            out: false,
            handled: false,
            deliveries: 0,
            foreign,
        });
        self.inherited.forget_up_to(position);
        self.pop_done();
        // What was done before is passed for good, though nothing is acked.
        if self.position == position {
            self.unsaved.since.get_or_insert_with(Instant::now);
        }
    }

    /// After which position to fetch.
    pub(crate) fn read_up_to(&self) -> Position {
        self.read
    }

    /// How many rows to fetch: no more than may be in memory, or a batch.
    pub(crate) fn rows_to_fetch(&self) -> usize {
        let room = self.rows_max().saturating_sub(self.rows.len());
        self.fetch_rows.min(room.max(self.limits.batch_size))
    }

    /// Says what a fetch came to. One costs as much as hundreds of rows do, so where the stream has waited for it and there
    /// is more, the next one brings twice as many, up to half of what may be in memory.
    pub(crate) fn fetched(&mut self, more: bool) {
        let Limits { batch_size, max_ahead, .. } = self.limits;
        let starved = std::mem::take(&mut self.starved);
        if !more {
            self.fetch_rows = batch_size;
        } else if starved {
            self.fetch_rows = (self.fetch_rows * 2).min(max_ahead / 2).max(batch_size);
        }
    }

    /// Whether there is anything to record before the lease is given back, attempts included.
    pub(crate) fn has_unsaved(&self) -> bool {
        self.unsaved.since.is_some() || !self.nacked.is_empty()
    }

    /// What was handed out and is not settled for good, by sequence number: in somebody's hands, or nacked.
    pub(crate) fn in_hand(&self) -> Vec<(u64, Position)> {
        let rows = self.rows.iter().zip(self.first..);
        let rows = rows.filter(|(row, _)| row.message.is_some());
        let in_hand = rows.filter(|(row, sequence)| row.out || self.nacked.contains_key(sequence));
        in_hand.map(|(row, sequence)| (sequence, row.position)).collect()
    }

    /// Somebody has deleted these rows, so that they are done with. Returns the deliveries that are lost with them.
    pub(crate) fn deleted(&mut self, sequences: &[u64], now: Instant) -> Vec<Token> {
        let mut lost = Vec::new();
        for &sequence in sequences {
            self.nacked.remove(&sequence);
            let Some(row) = self.row(sequence).filter(|row| row.message.is_some()) else { continue };
            row.message = None;
            if std::mem::take(&mut row.out) {
                lost.push(Token { scope: 0, position: sequence, delivery: row.deliveries });
                let handled = std::mem::take(&mut row.handled);
                self.out -= 1;
                self.handled -= usize::from(handled);
            }
            self.note(now);
        }
        self.pop_done();
        lost
    }

    /// What is to be recorded now.
    pub(crate) fn save(&mut self) -> Save {
        self.save_as_if(|_| false)
    }

    /// The same if rows with some sequence numbers were done, too.
    fn save_as_if(&mut self, done: impl Fn(u64) -> bool) -> Save {
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

    fn nack(&mut self, sequence: u64, delay: Duration, now: Instant) {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.nacked.insert(sequence, now + delay.min(YEAR));
        self.unsaved.since.get_or_insert(now);
    }

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

    fn note(&mut self, now: Instant) {
        self.unsaved.acks += 1;
        self.unsaved.since.get_or_insert(now);
    }

    fn pop_done(&mut self) {
        while let Some(row) = self.rows.front().filter(|row| row.message.is_none() && !row.out) {
            self.position = row.position;
            if self.limits.tells_passed && !row.foreign {
                self.unsaved.passed.push(row.position.offset);
            }
            self.rows.pop_front();
            self.first += 1;
            self.handed = self.handed.saturating_sub(1);
        }
    }

    /// How many rows there may be before no more are fetched.
    fn rows_max(&self) -> usize {
        let Limits { batch_size, max_ahead, .. } = self.limits;
        max_ahead.max(self.window.per_scope() + batch_size)
    }

    /// How many rows wait that were never handed out.
    fn fresh(&self) -> usize {
        self.rows.len() - self.handed
    }

    fn row(&mut self, sequence: u64) -> Option<&mut Row> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.rows.get_mut(at)
    }
}

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

#[cfg(test)]
mod fork;
#[cfg(test)]
mod tests;
