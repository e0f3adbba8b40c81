//! [`Claims`]: the rows of a queue that one subscription has in hand. A state machine without I/O or
//! clock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watermill_core::{
    Message, Window,
    backend::{Handed, Ledger, Offer, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

use super::dialect::{Claim, Release};
use crate::{dead_letter::DeadLetter, settle::Rejected};

/// How long a claimed row may wait for its turn before fewer are claimed ahead.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// What is claimed, handed out, and settled without being recorded.
#[derive(Debug)]
pub(crate) struct Claims {
    rows: HashMap<u64, Held>,
    /// Names the next row, and is never used twice by a subscription.
    next: u64,
    /// Claimed and not handed out, in the order of their claims.
    fresh: VecDeque<u64>,
    /// What those take in memory, and may take before no more are claimed.
    fresh_bytes: usize,
    batch_bytes: usize,
    out: usize,
    /// How many of those are handled and wait for their outputs.
    handled: usize,
    window: Window,
    /// How many may be claimed beyond the window: as many as handlers take in a moment.
    ahead: usize,
    /// Whether the stream was ready for a row that was not there.
    starved: bool,
    /// Rows up to here have made `ahead` smaller already.
    slow_up_to: u64,
    unsaved: Unsaved,
    /// Whether rejected messages are kept.
    dead_letters: bool,
}

#[derive(Debug)]
struct Held {
    claim: Claim,
    message: Message,
    published_at: Option<SystemTime>,
    claimed_at: Instant,
    handled: bool,
}

#[derive(Debug, Default)]
struct Unsaved {
    done: Vec<Done>,
    released: Vec<Released>,
    since: Option<Instant>,
    awaited: bool,
}

/// A row that is to be deleted or marked.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) claim: Claim,
    /// Set for one that is not acked.
    pub(crate) rejected: Option<Rejected>,
    receipt: Option<Receipt>,
}

/// A row that is to be let go.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) release: Release,
    receipt: Option<Receipt>,
}

impl Done {
    /// What is moved to the dead-letter topic.
    pub(crate) fn kept(&self) -> Option<&DeadLetter> {
        self.rejected.as_ref()?.kept()
    }

    /// It is recorded, or somebody else had the row.
    pub(crate) fn complete(self, recorded: bool, topic: &str) {
        if let Some(rejected) = self.rejected.filter(|_| recorded) {
            rejected.log(topic);
        }
        if let Some(receipt) = self.receipt {
            receipt.complete(if recorded { Ok(()) } else { Err(SettleError::lost()) });
        }
    }
}

impl Released {
    /// It is recorded, or somebody else had the row.
    pub(crate) fn complete(self, recorded: bool) {
        if let Some(receipt) = self.receipt {
            receipt.complete(if recorded { Ok(()) } else { Err(SettleError::lost()) });
        }
    }
}

impl Claims {
    pub(crate) fn new(dead_letters: bool, batch_bytes: usize) -> Self {
        Self {
            rows: HashMap::new(),
            next: 1,
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            batch_bytes,
            out: 0,
            handled: 0,
            window: Window::ONE,
            ahead: 1,
            starved: false,
            slow_up_to: 0,
            unsaved: Unsaved::default(),
            dead_letters,
        }
    }

    /// How many rows to claim, so that a moment's work is in hand.
    pub(crate) fn wanted(&self, batch_size: usize) -> usize {
        if !self.wants_more() {
            return 0;
        }
        // Those that are left are gone by the time the next ones are there.
        let out = self.out - self.handled;
        let total = self.window.total().saturating_sub(self.out);
        let wanted = self.window.per_scope().saturating_add(self.ahead).saturating_sub(out);
        wanted.min(total.saturating_add(self.ahead)).min(batch_size)
    }

    /// Says that a claim came back full. More are claimed ahead if the stream has waited for it.
    pub(crate) fn came_full(&mut self, batch_size: usize) {
        if std::mem::take(&mut self.starved) {
            self.ahead = (self.ahead * 4).min(batch_size);
        }
    }

    /// Adds a row that was claimed.
    pub(crate) fn push(
        &mut self,
        claim: Claim,
        message: Message,
        published_at: Option<SystemTime>,
        claimed_at: Instant,
    ) {
        self.fresh_bytes += message.payload().len();
        self.rows.insert(self.next, Held { claim, message, published_at, claimed_at, handled: false });
        self.fresh.push_back(self.next);
        self.next += 1;
    }

    /// Adds a row that was claimed and cannot be delivered: it is moved to the dead-letter topic.
    pub(crate) fn push_dead(&mut self, claim: Claim, dead_letter: DeadLetter, now: Instant) {
        self.done(Done { claim, rejected: Some(Rejected::Kept(dead_letter)), receipt: None }, now);
    }

    /// Lets a row go again.
    pub(crate) fn release(&mut self, release: Release, now: Instant) {
        self.released(Released { release, receipt: None }, now);
    }

    fn released(&mut self, released: Released, now: Instant) {
        self.unsaved.awaited |= released.receipt.is_some();
        self.unsaved.released.push(released);
        self.unsaved.since.get_or_insert(now);
    }

    /// What is in hand, handed out or not: what must stay out of sight of others.
    pub(crate) fn held(&self) -> Vec<Claim> {
        self.rows.values().map(|held| held.claim).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Drops those of `asked` that are not ours any more, and returns their numbers.
    pub(crate) fn keep_only(&mut self, asked: &[Claim], ours: &HashSet<i64>) -> HashSet<u64> {
        let lost: HashSet<Claim> =
            asked.iter().filter(|claim| !ours.contains(&claim.offset)).copied().collect();
        let lost: HashSet<u64> = self
            .rows
            .iter()
            .filter(|(_, held)| lost.contains(&held.claim))
            .map(|(sequence, _)| *sequence)
            .collect();
        let fresh_before = self.fresh.len();
        self.fresh.retain(|sequence| !lost.contains(sequence));
        self.fresh_bytes =
            self.fresh.iter().map(|sequence| self.rows[sequence].message.payload().len()).sum();
        self.out -= lost.len() - (fresh_before - self.fresh.len());
        self.handled -= lost.iter().filter(|sequence| self.rows[*sequence].handled).count();
        self.rows.retain(|sequence, _| !lost.contains(sequence));
        lost
    }

    /// Takes up to `limit` rows that are to be deleted or marked.
    pub(crate) fn take_done(&mut self, limit: usize) -> Vec<Done> {
        let limit = limit.min(self.unsaved.done.len());
        let done = self.unsaved.done.drain(..limit).collect();
        self.saved();
        done
    }

    /// Takes up to `limit` rows that are let go.
    pub(crate) fn take_released(&mut self, limit: usize) -> Vec<Released> {
        let limit = limit.min(self.unsaved.released.len());
        let released = self.unsaved.released.drain(..limit).collect();
        self.saved();
        released
    }

    /// They were not recorded, and are to be tried again.
    pub(crate) fn keep_done(&mut self, done: Vec<Done>, now: Instant) {
        self.unsaved.awaited |= done.iter().any(|done| done.receipt.is_some());
        self.unsaved.done.splice(0..0, done);
        self.unsaved.since.get_or_insert(now);
    }

    /// They were not recorded, and are to be tried again.
    pub(crate) fn keep_released(&mut self, released: Vec<Released>, now: Instant) {
        self.unsaved.awaited |= released.iter().any(|released| released.receipt.is_some());
        self.unsaved.released.splice(0..0, released);
        self.unsaved.since.get_or_insert(now);
    }

    fn saved(&mut self) {
        if self.unsaved.done.is_empty() && self.unsaved.released.is_empty() {
            (self.unsaved.awaited, self.unsaved.since) = (false, None);
        }
    }

    fn done(&mut self, done: Done, now: Instant) {
        self.unsaved.awaited |= done.receipt.is_some();
        self.unsaved.done.push(done);
        self.unsaved.since.get_or_insert(now);
    }
}

impl Ledger for Claims {
    fn next(&mut self, now: Instant) -> Offer {
        if self.out - self.handled >= self.window.per_scope() || self.out >= self.window.total() {
            return Offer::Nothing(None);
        }
        let Some(sequence) = self.fresh.pop_front() else {
            self.starved = true;
            return Offer::Nothing(None);
        };
        let Some(held) = self.rows.get(&sequence) else { return Offer::Nothing(None) };
        self.fresh_bytes -= held.message.payload().len();
        if now.saturating_duration_since(held.claimed_at) > WAIT_MAX && sequence > self.slow_up_to {
            self.ahead = (self.ahead / 2).max(1);
            // Those that wait with it say nothing new.
            self.slow_up_to = self.next;
        }
        self.out += 1;
        Offer::Handed(
            Handed::new(token(sequence), held.message.clone())
                .attempt(held.claim.attempt)
                .published_at(held.published_at)
                .offset(Some(held.claim.offset)),
        )
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let Some(Held { claim, message, handled, .. }) = self.rows.remove(&token.position) else {
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return false;
        };
        self.out -= 1;
        self.handled -= usize::from(handled);
        let delay = match outcome {
            Outcome::Ack => {
                self.done(Done { claim, rejected: None, receipt }, now);
                return true;
            }
            Outcome::Reject { reason } => {
                let Claim { offset, attempt: attempts } = claim;
                let rejected =
                    Rejected::new(DeadLetter { offset, message, reason, attempts }, self.dead_letters);
                self.done(Done { claim, rejected: Some(rejected), receipt }, now);
                return true;
            }
            Outcome::Nack { delay } => delay,
            _ => Duration::ZERO,
        };
        self.released(Released { release: Release { claim, delay, tried: true }, receipt }, now);
        true
    }

    fn give_back(&mut self, now: Instant) {
        let fresh: HashSet<u64> = self.fresh.drain(..).collect();
        self.fresh_bytes = 0;
        for (sequence, held) in std::mem::take(&mut self.rows) {
            let tried = !fresh.contains(&sequence);
            self.release(Release { claim: held.claim, delay: Duration::ZERO, tried }, now);
        }
        (self.out, self.handled) = (0, 0);
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        self.rows.clear();
        self.fresh.clear();
        self.fresh_bytes = 0;
        (self.out, self.handled) = (0, 0);
        let Unsaved { done, released, .. } = std::mem::take(&mut self.unsaved);
        let receipts = done.into_iter().map(|done| done.receipt);
        for receipt in receipts.chain(released.into_iter().map(|released| released.receipt)).flatten() {
            receipt.complete(Err(why()));
        }
    }

    fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    fn handled(&mut self, token: Token) -> bool {
        let Some(held) = self.rows.get_mut(&token.position) else { return false };
        let first = !std::mem::replace(&mut held.handled, true);
        self.handled += usize::from(first);
        first
    }

    fn tokens(&self) -> Vec<Token> {
        let fresh: HashSet<&u64> = self.fresh.iter().collect();
        let out = self.rows.keys().filter(|sequence| !fresh.contains(sequence));
        out.map(|sequence| token(*sequence)).collect()
    }

    fn outstanding(&self) -> usize {
        self.out
    }

    fn wants_more(&self) -> bool {
        self.fresh.len() < self.ahead.div_ceil(2) && self.fresh_bytes < self.batch_bytes
    }

    fn unrecorded(&self) -> Unrecorded {
        let Unsaved { done, released, since, awaited } = &self.unsaved;
        Unrecorded { count: done.len() + released.len(), since: *since, awaited: *awaited }
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.rows.values().filter_map(|held| held.published_at).min()
    }
}

/// Claimed again, a row has another number.
fn token(sequence: u64) -> Token {
    Token { scope: 0, position: sequence, delivery: 1 }
}

#[cfg(test)]
mod tests;
