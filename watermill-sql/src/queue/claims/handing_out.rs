//! What is handed out next, and what becomes of it.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watermill_core::{
    Window,
    backend::{Handed, Ledger, Offer, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

use super::{
    Claims, Held,
    unsaved::{Done, Released, Unsaved},
};
use crate::{
    dead_letter::DeadLetter,
    queue::dialect::{Claim, KeyClaim, Release},
    settle::Rejected,
};

/// How long a claimed row may wait for its turn before fewer are claimed ahead.
const WAIT_MAX: Duration = Duration::from_millis(100);

impl Ledger for Claims {
    fn next(&mut self, now: Instant) -> Offer {
        let is_full = !self.has_scopes() && self.out - self.handled >= self.window.per_scope();
        if is_full || self.out >= self.window.total() {
            return Offer::Nothing(None);
        }
        let Some(sequence) = self.fresh.pop_front() else {
            self.starved = true;
            return Offer::Nothing(None);
        };
        let Some(held) = self.rows.get_mut(&sequence) else { return Offer::Nothing(None) };
        held.out = true;
        self.waiting_bytes -= held.message.bytes();
        let (claim, key) = (held.claim, held.key());
        let (message, published_at) = (held.message.message(), held.published_at);
        let waited = now.saturating_duration_since(held.claimed_at);
        if waited > WAIT_MAX && sequence > self.slow_up_to {
            self.ahead = (self.ahead / 2).max(1);
            // Those that wait with it say nothing new.
            self.slow_up_to = self.next;
        }
        self.out += 1;
        Offer::Handed(
            Handed::new(self.token(sequence, key), message)
                .attempt(claim.attempt)
                .published_at(published_at)
                .offset(Some(claim.offset)),
        )
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let Some(Held { claim, key, message, handled, .. }) = self.rows.remove(&token.position) else {
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return false;
        };
        self.out -= 1;
        self.handled -= usize::from(handled);
        if self.joining.take(token.position) {
            if let Some(receipt) = receipt {
                receipt.complete(Ok(()));
            }
            return true;
        }
        if let Some(KeyClaim { key, .. }) = key {
            if !handled {
                self.lanes.leave(key);
            }
            match outcome {
                Outcome::Ack | Outcome::Reject { .. } => self.advance(key),
                _ => self.release_behind(key, now),
            }
        }
        let delay = match outcome {
            Outcome::Ack => {
                let message = Some(message);
                self.unsaved.push_done(Done { claim, message, key, rejected: None, receipt }, now);
                return true;
            }
            Outcome::Reject { reason } => {
                let Claim { offset, attempt: attempts } = claim;
                let dead_letter = DeadLetter { offset, message: message.message(), reason, attempts };
                let rejected = Some(Rejected::new(dead_letter, self.dead_letters));
                let message = Some(message);
                self.unsaved.push_done(Done { claim, message, key, rejected, receipt }, now);
                return true;
            }
            Outcome::Nack { delay } => delay,
            _ => Duration::ZERO,
        };
        let release = Release { claim, delay, tried: true };
        self.unsaved.push_released(Released { release, key, receipt }, now);
        true
    }

    fn give_back(&mut self, now: Instant) {
        self.fresh.clear();
        self.lanes.clear();
        self.waiting_bytes = 0;
        for Held { claim, key, out, .. } in std::mem::take(&mut self.rows).into_values() {
            self.release(Release { claim, delay: Duration::ZERO, tried: out }, key, now);
        }
        (self.out, self.handled) = (0, 0);
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        self.joining.clear();
        self.rows.clear();
        self.fresh.clear();
        self.lanes.clear();
        self.waiting_bytes = 0;
        (self.out, self.handled) = (0, 0);
        let Unsaved { done, released, .. } = std::mem::take(&mut self.unsaved);
        let receipts = done.into_iter().map(|done| done.receipt);
        for receipt in receipts.chain(released.into_iter().map(|released| released.receipt)).flatten() {
            receipt.complete(Err(why()));
        }
    }

    fn set_window(&mut self, window: Window) {
        self.window = window;
        let (ready, fresh): (VecDeque<u64>, _) =
            self.fresh.iter().copied().partition(|sequence| self.key_of(sequence).is_some());
        self.fresh = fresh;
        for sequence in ready.into_iter().rev() {
            if let Some(key) = self.key_of(&sequence) {
                self.lanes.put_back(key, sequence);
            }
        }
        self.lanes.keys().into_iter().for_each(|key| self.advance(key));
    }

    fn handled(&mut self, token: Token) -> bool {
        let Some(held) = self.rows.get_mut(&token.position) else { return false };
        let first = !std::mem::replace(&mut held.handled, true);
        if let Some(key) = held.key().filter(|_| first) {
            self.lanes.leave(key);
            self.advance(key);
        }
        self.handled += usize::from(first);
        first
    }

    fn tokens(&self) -> Vec<Token> {
        let out = self.rows.iter().filter(|(_, held)| held.out);
        out.map(|(sequence, held)| self.token(*sequence, held.key())).collect()
    }

    fn outstanding(&self) -> usize {
        self.out
    }

    fn wants_more(&self) -> bool {
        self.fresh.len() < self.ahead.div_ceil(2) && self.waiting_bytes < self.batch_bytes
    }

    fn unrecorded(&self) -> Unrecorded {
        let Unsaved { done, released, since, awaited } = &self.unsaved;
        Unrecorded { count: done.len() + released.len(), since: *since, awaited: *awaited }
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.rows.values().filter_map(|held| held.published_at).min()
    }
}

impl Claims {
    /// Lets rows of a key be handed out as far as the window lets them: in an unordered one, one after another still.
    pub(super) fn advance(&mut self, key: i64) {
        let most = if self.window.is_ordered() { self.window.per_scope() } else { 1 };
        while let Some(next) = self.lanes.advance(key, most) {
            self.fresh.push_back(next);
        }
    }

    /// Lets the rows of a key go that were not handed out.
    fn release_behind(&mut self, key: i64, now: Instant) {
        let is_of_key = |sequence: &u64| self.key_of(sequence) == Some(key);
        let mut behind: Vec<u64> = self.fresh.iter().copied().filter(is_of_key).collect();
        self.fresh.retain(|sequence| !behind.contains(sequence));
        behind.iter().for_each(|_| self.lanes.leave(key));
        behind.extend(self.lanes.take_waiting(key));
        for sequence in behind {
            if let Some(Held { claim, key, message, .. }) = self.rows.remove(&sequence) {
                self.waiting_bytes -= message.bytes();
                self.release(Release { claim, delay: Duration::ZERO, tried: false }, key, now);
            }
        }
    }

    /// Claimed again, a row has another number.
    fn token(&self, sequence: u64, key: Option<i64>) -> Token {
        let scope = if self.ordered { key.map_or(sequence, i64::cast_unsigned) } else { 0 };
        Token { scope, position: sequence, delivery: 1 }
    }
}
