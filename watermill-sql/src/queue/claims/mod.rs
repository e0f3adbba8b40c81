//! [`Claims`]: the rows of a queue that one subscription has in hand. A state machine without I/O or
//! clock.

mod joining;
mod lanes;
mod unsaved;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watermill_core::{
    Window,
    backend::{Handed, Ledger, Offer, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

pub(crate) use self::unsaved::{Done, Released};
use self::{joining::Joining, lanes::Lanes, unsaved::Unsaved};
use super::dialect::{Claim, KeyClaim, Release};
use crate::{dead_letter::DeadLetter, settle::Rejected, stored::Stored};

/// How long a claimed row may wait for its turn before fewer are claimed ahead.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// What is claimed, handed out, and settled without being recorded.
#[derive(Debug)]
pub(crate) struct Claims {
    rows: HashMap<u64, Held>,
    /// Names the next row, and is never used twice by a subscription.
    next: u64,
    /// Claimed, and may be handed out, in the order of their claims.
    fresh: VecDeque<u64>,
    /// Of a queue in order by key, the rows that have one.
    lanes: Lanes,
    /// Whether the queue is in order by key.
    ordered: bool,
    /// What is not handed out takes so much memory, and may take so much before no more is claimed.
    waiting_bytes: usize,
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
    /// Acks that are part of handlers' transactions.
    joining: Joining,
    /// Whether rejected messages are kept.
    dead_letters: bool,
}

#[derive(Debug)]
struct Held {
    claim: Claim,
    key: Option<KeyClaim>,
    /// Made a message when it is handed out.
    message: Stored,
    published_at: Option<SystemTime>,
    claimed_at: Instant,
    out: bool,
    handled: bool,
}

impl Claims {
    /// Nothing in hand, of a queue that is in order by key or not. Rejected messages may be kept.
    pub(crate) fn new(ordered: bool, dead_letters: bool, batch_bytes: usize) -> Self {
        Self {
            rows: HashMap::new(),
            next: 1,
            fresh: VecDeque::new(),
            lanes: Lanes::default(),
            ordered,
            waiting_bytes: 0,
            batch_bytes,
            out: 0,
            handled: 0,
            window: Window::ONE,
            ahead: 1,
            starved: false,
            slow_up_to: 0,
            unsaved: Unsaved::default(),
            joining: Joining::default(),
            dead_letters,
        }
    }

    /// How many rows to claim, so that a moment's work is in hand.
    pub(crate) fn wanted(&self, batch_size: usize) -> usize {
        if !self.wants_more() {
            return 0;
        }
        let total = self.window.total().saturating_sub(self.out).saturating_add(self.ahead);
        if self.has_scopes() {
            return self.ahead.saturating_add(1).min(total).min(batch_size);
        }
        // Those that are left are gone by the time the next ones are there.
        let out = self.out - self.handled;
        let wanted = self.window.per_scope().saturating_add(self.ahead).saturating_sub(out);
        wanted.min(total).min(batch_size)
    }

    /// Whether several rows of a key may be claimed at once: as long as not too many wait for those before them.
    pub(crate) fn takes_runs(&self, batch_size: usize) -> bool {
        self.rows.len() - self.out - self.fresh.len() < batch_size
    }

    /// Rows that hold keys of which more might be handed out than is here.
    pub(crate) fn holders(&self) -> Vec<i64> {
        if !self.has_scopes() {
            return Vec::new();
        }
        let most = self.window.per_scope();
        let lacks = |key: &KeyClaim| key.holds && self.lanes.lacks(key.key, most);
        self.rows
            .values()
            .filter(|held| held.key.as_ref().is_some_and(lacks))
            .map(|held| held.claim.offset)
            .collect()
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
        (claim, key): (Claim, Option<KeyClaim>),
        message: Stored,
        published_at: Option<SystemTime>,
        claimed_at: Instant,
    ) {
        self.waiting_bytes += message.bytes();
        let held = Held { claim, key, message, published_at, claimed_at, out: false, handled: false };
        self.rows.insert(self.next, held);
        match key {
            Some(KeyClaim { key, .. }) => {
                self.lanes.push(key, self.next);
                self.advance(key);
            }
            None => self.fresh.push_back(self.next),
        }
        self.next += 1;
    }

    /// Adds a row that was claimed and cannot be delivered: it is moved to the dead-letter topic.
    pub(crate) fn push_dead(
        &mut self,
        (claim, key): (Claim, Option<KeyClaim>),
        dead_letter: DeadLetter,
        now: Instant,
    ) {
        let rejected = Some(Rejected::Kept(dead_letter));
        self.unsaved.push_done(Done { claim, message: None, key, rejected, receipt: None }, now);
    }

    /// Is done with a claim whose row is no longer there.
    pub(crate) fn forget(&mut self, claim: Claim, now: Instant) {
        self.unsaved.push_done(Done { claim, message: None, key: None, rejected: None, receipt: None }, now);
    }

    /// Lets a row go again.
    pub(crate) fn release(&mut self, release: Release, key: Option<KeyClaim>, now: Instant) {
        self.unsaved.push_released(Released { release, key, receipt: None }, now);
    }

    /// The ids of what is in hand, and their claims.
    pub(crate) fn held_ids(&self) -> Vec<(String, Claim)> {
        self.rows.values().map(|held| (held.message.id().to_owned(), held.claim)).collect()
    }

    /// What is in hand, handed out or not: what must stay out of sight of others.
    pub(crate) fn held(&self) -> Vec<Claim> {
        let rows = self.rows.iter().filter(|(sequence, _)| !self.joining.is_done(**sequence));
        rows.map(|(_, held)| held.claim).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Drops those of `asked` that are not ours any more, and returns their numbers. Whoever has a row has its key, so
    /// the others of that key are let go.
    pub(crate) fn keep_only(&mut self, asked: &[Claim], ours: &HashSet<i64>, now: Instant) -> HashSet<u64> {
        let not_ours: HashSet<Claim> =
            asked.iter().filter(|claim| !ours.contains(&claim.offset)).copied().collect();
        let keys: HashSet<i64> =
            self.rows.values().filter(|held| not_ours.contains(&held.claim)).filter_map(Held::key).collect();
        let is_lost =
            |held: &Held| not_ours.contains(&held.claim) || held.key().is_some_and(|key| keys.contains(&key));
        let lost: HashSet<u64> =
            self.rows.iter().filter(|(_, held)| is_lost(held)).map(|(sequence, _)| *sequence).collect();
        self.fresh.retain(|sequence| !lost.contains(sequence));
        keys.into_iter().for_each(|key| self.lanes.remove(key));
        for sequence in &lost {
            let Some(Held { claim, key, message, out, handled, .. }) = self.rows.remove(sequence) else {
                continue;
            };
            self.out -= usize::from(out);
            self.waiting_bytes -= if out { 0 } else { message.bytes() };
            self.handled -= usize::from(handled);
            if !not_ours.contains(&claim) {
                self.release(Release { claim, delay: Duration::ZERO, tried: out }, key, now);
            }
        }
        lost
    }

    /// Takes up to `limit` rows that are to be deleted or marked.
    pub(crate) fn take_done(&mut self, limit: usize) -> (Vec<Done>, PassedOn) {
        let done = self.unsaved.take_done(limit);
        let passed_on = self.pass_on(done.iter().filter_map(|done| done.key));
        (done, passed_on)
    }

    /// Takes up to `limit` rows that are let go.
    pub(crate) fn take_released(&mut self, limit: usize) -> (Vec<Released>, PassedOn) {
        let released = self.unsaved.take_released(limit);
        let passed_on = self.pass_on(released.iter().filter_map(|released| released.key));
        (released, passed_on)
    }

    /// They were not recorded, and are to be tried again.
    pub(crate) fn keep_done(&mut self, done: Vec<Done>, now: Instant) {
        self.unsaved.keep_done(done, now);
    }

    /// They were not recorded, and are to be tried again.
    pub(crate) fn keep_released(&mut self, released: Vec<Released>, now: Instant) {
        self.unsaved.keep_released(released, now);
    }

    /// What becomes of the keys that rows have held which are ours no more.
    fn pass_on(&mut self, keys: impl Iterator<Item = KeyClaim>) -> PassedOn {
        let mut ended: HashSet<i64> = keys.filter(|key| key.holds).map(|key| key.key).collect();
        let mut heirs = Vec::new();
        // First those that were named before, if that could not be recorded.
        for named in [true, false] {
            if ended.is_empty() {
                break;
            }
            let rows = self.rows.values_mut();
            let in_hand = rows.filter_map(|held| Some((held.claim.offset, held.key.as_mut()?)));
            for (offset, other) in in_hand.chain(self.unsaved.keys()) {
                if other.holds == named && ended.remove(&other.key) {
                    other.holds = true;
                    heirs.push(offset);
                }
            }
        }
        PassedOn { heirs, ended: ended.into_iter().collect() }
    }

    /// Whether each key is a scope, and each message without one.
    fn has_scopes(&self) -> bool {
        self.ordered && self.window.is_ordered()
    }

    /// Lets rows of a key be handed out as far as the window lets them: in an unordered one, one after another still.
    fn advance(&mut self, key: i64) {
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

    fn key_of(&self, sequence: &u64) -> Option<i64> {
        self.rows.get(sequence).and_then(Held::key)
    }

    /// Claimed again, a row has another number.
    fn token(&self, sequence: u64, key: Option<i64>) -> Token {
        let scope = if self.ordered { key.map_or(sequence, i64::cast_unsigned) } else { 0 };
        Token { scope, position: sequence, delivery: 1 }
    }
}

/// What becomes of the keys whose rows are ours no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedOn {
    /// Rows in hand that hold a key from now on.
    pub(crate) heirs: Vec<i64>,
    /// Keys of which nothing is in hand.
    pub(crate) ended: Vec<i64>,
}

impl Held {
    fn key(&self) -> Option<i64> {
        self.key.map(|key| key.key)
    }
}

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

#[cfg(test)]
mod tests;
