//! [`Partition`]: what is in hand of one partition, from the oldest unsettled message on.

use std::{collections::VecDeque, mem, time::SystemTime};

use tokio::time::Instant;

use super::Rejected;
use crate::{
    Message, Window,
    backend::{
        Handed,
        ledger::{DELAY_MAX, complete},
    },
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

pub(super) struct Partition {
    scope: u64,
    /// In the order of their offsets.
    entries: VecDeque<Entry>,
    /// `entries[..handed]` have been handed out at least once.
    handed: usize,
    outstanding: usize,
    /// How many of those are handled and wait for their outputs.
    handled: usize,
    nacked: usize,
    /// Everything before it is done.
    position: u64,
    /// Everything before it was read.
    read: u64,
    recorded: u64,
    /// With the offsets of their messages.
    receipts: Vec<(u64, Receipt)>,
    rejected: VecDeque<Rejected>,
}

/// What a partition has to hand out.
pub(super) enum Turn {
    Handed(Handed),
    Nothing(Option<Instant>),
}

struct Entry {
    offset: u64,
    published_at: Option<SystemTime>,
    deliveries: u32,
    state: State,
}

enum State {
    Fresh(Message),
    Outstanding {
        message: Message,
        handled: bool,
    },
    Nacked {
        message: Message,
        due: Instant,
    },
    /// On its way to the dead-letter topic.
    Rejected,
    Done,
}

impl Partition {
    pub(super) fn new(scope: u64, position: u64) -> Self {
        Self {
            scope,
            entries: VecDeque::new(),
            handed: 0,
            outstanding: 0,
            handled: 0,
            nacked: 0,
            position,
            read: position,
            recorded: position,
            receipts: Vec::new(),
            rejected: VecDeque::new(),
        }
    }

    pub(super) fn scope(&self) -> u64 {
        self.scope
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(super) fn fresh(&self) -> usize {
        self.entries.len() - self.handed
    }

    pub(super) fn room(&self, ahead: usize, span: usize) -> usize {
        ahead.saturating_sub(self.fresh()).min(span.saturating_sub(self.entries.len()))
    }

    pub(super) fn push(&mut self, offset: u64, message: Message, published_at: Option<SystemTime>) {
        if offset >= self.read {
            self.read = offset + 1;
            self.entries.push_back(Entry {
                offset,
                published_at,
                deliveries: 0,
                state: State::Fresh(message),
            });
        }
    }

    pub(super) fn next(&mut self, window: Window, now: Instant) -> Turn {
        if self.outstanding - self.handled >= window.per_scope() {
            return Turn::Nothing(None);
        }
        let (at, later) = match self.next_nacked(window.is_ordered()) {
            Some((at, due)) if due <= now => (Some(at), None),
            Some((_, due)) if window.is_ordered() => return Turn::Nothing(Some(due)),
            later => (None, later.map(|(_, due)| due)),
        };
        match at.or_else(|| (self.handed < self.entries.len()).then_some(self.handed)) {
            Some(at) => self.hand_out(at).map_or(Turn::Nothing(later), Turn::Handed),
            None => Turn::Nothing(later),
        }
    }

    pub(super) fn is_outstanding(&self, token: Token) -> bool {
        self.find(token).is_some()
    }

    /// Takes note of an outcome of what is outstanding.
    pub(super) fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) {
        let Some(at) = self.find(token) else { return };
        let entry = &mut self.entries[at];
        let State::Outstanding { message, handled } = mem::replace(&mut entry.state, State::Done) else {
            return;
        };
        let attempts = entry.deliveries;
        self.outstanding -= 1;
        self.handled -= usize::from(handled);
        match outcome {
            Outcome::Nack { delay } => {
                self.nack(at, message, now + delay.min(DELAY_MAX));
                // There is nothing to record.
                return complete(receipt, Ok(()));
            }
            Outcome::Reject { reason } => {
                self.entries[at].state = State::Rejected;
                self.rejected.push_back(Rejected { token, message, reason, attempts });
            }
            Outcome::Ack => {}
        }
        self.receipts.extend(receipt.map(|receipt| (token.position, receipt)));
        self.pass_done();
    }

    pub(super) fn handled(&mut self, token: Token) -> bool {
        let Some(at) = self.find(token) else { return false };
        let State::Outstanding { handled, .. } = &mut self.entries[at].state else { return false };
        let first = !mem::replace(handled, true);
        self.handled += usize::from(first);
        first
    }

    pub(super) fn take_rejected(&mut self) -> VecDeque<Rejected> {
        mem::take(&mut self.rejected)
    }

    pub(super) fn keep_rejected(&mut self, rejected: Rejected) {
        self.rejected.push_back(rejected);
    }

    pub(super) fn rejected_done(&mut self, token: Token) {
        if let Some(at) = self.place(token.position)
            && matches!(self.entries[at].state, State::Rejected)
        {
            self.entries[at].state = State::Done;
            self.pass_done();
        }
    }

    pub(super) fn unrecorded(&self) -> Option<u64> {
        (self.recorded < self.position).then_some(self.position)
    }

    /// Whether the position has moved, or a rejected message waits.
    pub(super) fn has_work(&self) -> bool {
        self.unrecorded().is_some() || !self.rejected.is_empty()
    }

    /// Whether to record the position would complete a receipt, or a rejected message waits.
    pub(super) fn is_awaited(&self) -> bool {
        !self.rejected.is_empty()
            || self.unrecorded().is_some_and(|position| self.receipts.iter().any(|(at, _)| *at < position))
    }

    pub(super) fn recorded(&mut self, position: u64) {
        self.recorded = self.recorded.max(position);
        for (_, receipt) in self.receipts.extract_if(.., |(at, _)| *at < position) {
            receipt.complete(Ok(()));
        }
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let outstanding = self.entries.iter().filter(|it| matches!(it.state, State::Outstanding { .. }));
        outstanding.map(|it| Token { scope: self.scope, position: it.offset, delivery: it.deliveries })
    }

    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.entries.front()?.published_at
    }

    /// Nacks what is outstanding and forgets what was never handed out; the position stays.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.entries.truncate(self.handed);
        for at in 0..self.entries.len() {
            match mem::replace(&mut self.entries[at].state, State::Done) {
                State::Outstanding { message, .. } => self.nack(at, message, now),
                other => self.entries[at].state = other,
            }
        }
        (self.outstanding, self.handled) = (0, 0);
    }

    pub(super) fn lose(self, why: fn() -> SettleError) {
        self.receipts.into_iter().for_each(|(_, receipt)| receipt.complete(Err(why())));
    }

    fn nack(&mut self, at: usize, message: Message, due: Instant) {
        self.entries[at].state = State::Nacked { message, due };
        self.nacked += 1;
    }

    /// The nacked message that comes next, in order or by the time it is due.
    fn next_nacked(&self, ordered: bool) -> Option<(usize, Instant)> {
        if self.nacked == 0 {
            return None;
        }
        let nacked = self.entries.iter().enumerate().filter_map(|(at, entry)| match entry.state {
            State::Nacked { due, .. } => Some((at, due)),
            _ => None,
        });
        if ordered { nacked.min_by_key(|(at, _)| *at) } else { nacked.min_by_key(|(_, due)| *due) }
    }

    fn hand_out(&mut self, at: usize) -> Option<Handed> {
        let entry = &mut self.entries[at];
        let message = match mem::replace(&mut entry.state, State::Done) {
            State::Fresh(message) => {
                self.handed += 1;
                message
            }
            State::Nacked { message, .. } => {
                self.nacked -= 1;
                message
            }
            other => {
                entry.state = other;
                return None;
            }
        };
        entry.state = State::Outstanding { message: message.clone(), handled: false };
        entry.deliveries = entry.deliveries.saturating_add(1);
        self.outstanding += 1;
        let token = Token { scope: self.scope, position: entry.offset, delivery: entry.deliveries };
        Some(
            Handed::new(token, message)
                .attempt(entry.deliveries)
                .published_at(entry.published_at)
                .offset(i64::try_from(entry.offset).ok()),
        )
    }

    /// Moves the position over what is done.
    fn pass_done(&mut self) {
        while let Some(entry) = self.entries.front().filter(|entry| matches!(entry.state, State::Done)) {
            self.position = entry.offset + 1;
            self.entries.pop_front();
            self.handed -= 1;
        }
    }

    fn find(&self, token: Token) -> Option<usize> {
        let at = self.place(token.position)?;
        let entry = &self.entries[at];
        let outstanding = matches!(entry.state, State::Outstanding { .. });
        (outstanding && entry.deliveries == token.delivery).then_some(at)
    }

    fn place(&self, offset: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }
}
