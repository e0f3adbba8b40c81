//! [`Claims`]: the rows of a queue that one subscription has in hand. A state machine without I/O or
//! clock.

mod handing_out;
mod joining;
mod lanes;
mod recording;
mod steps;
mod unsaved;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watermill_core::{Window, backend::Ledger as _};

pub(crate) use self::unsaved::{Done, PassedOn, Released};
use self::{joining::Joining, lanes::Lanes, unsaved::Unsaved};
use super::dialect::{Claim, KeyClaim, Release};
use crate::{dead_letter::DeadLetter, settle::Rejected, stored::Stored};

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

    /// Whether each key is a scope, and each message without one.
    fn has_scopes(&self) -> bool {
        self.ordered && self.window.is_ordered()
    }

    fn key_of(&self, sequence: &u64) -> Option<i64> {
        self.rows.get(sequence).and_then(Held::key)
    }
}

impl Held {
    fn key(&self) -> Option<i64> {
        self.key.map(|key| key.key)
    }
}

#[cfg(test)]
mod tests;
