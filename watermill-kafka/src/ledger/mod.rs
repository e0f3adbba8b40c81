//! [`Ledger`]: the records of one partition in hand, from the oldest unsettled one on. A state machine
//! without I/O or clock.
//!
//! A record is handed out and settled: done, or nacked and due again later. What is done from the
//! front on moves the watermark, which is what may be committed; what is done behind an unsettled record
//! waits for it.

mod enlisted;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::{
    Message, Window,
    delivery::{Receipt, Token},
    error::SettleError,
};

use self::enlisted::Enlisted;
pub(crate) use self::enlisted::{EnlistedState, Enlistment, Reread};

/// The records of one assignment of a partition.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// In the order of their offsets, which have gaps: of compaction and of transactions.
    entries: VecDeque<Entry>,
    /// How many are handed out and unsettled.
    out: usize,
    /// How many of those are handled and wait for their outputs.
    handled: usize,
    /// How many are nacked and wait to be handed out again.
    nacked: usize,
    /// The offset after the last one before which everything is done; `None` while nothing is.
    watermark: Option<i64>,
    /// What of the watermark is committed.
    committed: Option<i64>,
    /// Those who wait for the commit of an offset, in no order.
    receipts: Vec<(i64, Receipt)>,
    /// The first offset that was handed out.
    first: Option<i64>,
    /// What was enlisted in the open transaction.
    enlisted: Enlisted,
    /// How often records were handed out before the partition was read again.
    earlier: HashMap<i64, u32>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    /// How often it has been handed out.
    attempts: u32,
    /// In milliseconds since the Unix epoch.
    timestamp: Option<i64>,
    enlisted: bool,
    handled: bool,
    /// How often this assignment has handed it out.
    deliveries: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Out(Message),
    /// In hand, and whatever is said of it, it comes again at this time, with those before it.
    Behind(Instant, Message),
    /// Nacked; to be handed out again at this time.
    Due(Instant, Message),
    /// On its way to the dead-letter topic.
    Rejected,
    Done,
}

impl Entry {
    fn token(&self, scope: u64) -> Token {
        Token { scope, position: self.offset.cast_unsigned(), delivery: self.deliveries }
    }
}

/// What may be handed out now.
#[derive(Debug)]
pub(crate) enum Offer {
    /// A record that was nacked.
    Redelivery(Handed),
    /// The next one that Kafka has.
    Fresh,
    /// Nothing before this time, or before something is settled.
    Nothing(Option<Instant>),
}

/// A record that is handed out.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
    /// How often this assignment has handed it out.
    pub(crate) delivery: u32,
    pub(crate) timestamp: Option<i64>,
    pub(crate) message: Message,
}

/// A message that is to be sent to the dead-letter topic.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) message: Message,
    pub(crate) attempts: u32,
}

/// A delay too long to be added up is as good as this.
const DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl Ledger {
    /// Of a log that begins at this offset, whatever is committed.
    pub(crate) fn beginning(offset: i64) -> Self {
        Self { watermark: Some(offset), ..Self::default() }
    }

    /// What the window lets through; `now` is asked for only where it matters.
    #[inline]
    pub(crate) fn offer(&mut self, window: Window, max_ahead: usize, now: impl FnOnce() -> Instant) -> Offer {
        // After an enlisted record that was not done the partition is read again as a whole, with another ledger.
        if self.out - self.handled >= window.per_scope() || self.enlisted.broken {
            return Offer::Nothing(None);
        }
        let mut due = None;
        if self.nacked > 0 {
            match self.next_nacked(window.is_ordered(), now()) {
                Ok(handed) => return Offer::Redelivery(handed),
                Err(later) => due = Some(later),
            }
        }
        let waits = due.is_some() && window.is_ordered();
        let full = self.entries.len() >= max_ahead.max(window.per_scope());
        if waits || full { Offer::Nothing(due) } else { Offer::Fresh }
    }

    /// The earliest time at which a nacked record is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| if let State::Due(due, _) = entry.state { Some(due) } else { None };
        if self.nacked == 0 { None } else { self.entries.iter().filter_map(due).min() }
    }

    /// Takes note of a record that is handed out for the first time, and says which attempt that is; `None`
    /// for one that lies before what was read: the log is another now, and needs another ledger.
    #[inline]
    pub(crate) fn hand_out(&mut self, offset: i64, timestamp: Option<i64>, message: &Message) -> Option<u32> {
        if self.expects().is_some_and(|next| offset < next) {
            return None;
        }
        let attempts = if self.earlier.is_empty() { 1 } else { self.attempts(offset) };
        self.first.get_or_insert(offset);
        let state = State::Out(message.clone());
        self.entries.push_back(Entry {
            offset,
            attempts,
            timestamp,
            enlisted: false,
            handled: false,
            deliveries: 1,
            state,
        });
        self.out += 1;
        Some(attempts)
    }

    /// The offset before which everything was handed out; `None` while nothing was.
    #[inline]
    pub(crate) fn expects(&self) -> Option<i64> {
        self.entries.back().map(|entry| entry.offset + 1).or(self.watermark)
    }

    #[cold]
    fn attempts(&mut self, offset: i64) -> u32 {
        self.earlier.remove(&offset).unwrap_or_default().saturating_add(1)
    }

    /// A record is done. A receipt is kept until that is committed.
    #[inline]
    pub(crate) fn ack(&mut self, offset: i64, receipt: Option<Receipt>) {
        let Some(entry) = self.out(offset) else { return self.not_out(offset, receipt) };
        entry.state = State::Done;
        let (enlisted, handled) = (entry.enlisted, entry.handled);
        self.leaves(handled);
        if enlisted {
            self.enlisted.open -= 1;
        }
        self.receipts.extend(receipt.map(|receipt| (offset, receipt)));
        self.pop_done();
    }

    /// A record is to be handed out again after `delay`.
    pub(crate) fn nack(&mut self, offset: i64, delay: Duration, now: Instant, receipt: Option<Receipt>) {
        let Some(entry) = self.out(offset) else { return self.not_out(offset, receipt) };
        if let State::Out(message) = std::mem::replace(&mut entry.state, State::Done) {
            entry.state = State::Due(now + delay.min(DELAY_MAX), message);
        }
        let (enlisted, handled) = (entry.enlisted, std::mem::take(&mut entry.handled));
        self.enlisted.broken |= enlisted;
        self.leaves(handled);
        self.nacked += 1;
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
    }

    /// A record goes to the dead-letter topic; it is done when it is there, see [`dead_lettered`](Self::dead_lettered).
    pub(crate) fn reject(&mut self, offset: i64, receipt: Option<Receipt>) -> Option<Rejected> {
        let Some(entry) = self.out(offset) else {
            self.not_out(offset, receipt);
            return None;
        };
        let (attempts, enlisted, handled) = (entry.attempts, entry.enlisted, entry.handled);
        let State::Out(message) = std::mem::replace(&mut entry.state, State::Rejected) else { return None };
        self.enlisted.broken |= enlisted;
        self.leaves(handled);
        self.receipts.extend(receipt.map(|receipt| (offset, receipt)));
        Some(Rejected { message, attempts })
    }

    /// A record has arrived at the dead-letter topic.
    pub(crate) fn dead_lettered(&mut self, offset: i64) {
        if let Some(entry) = self.entry(offset).filter(|entry| matches!(entry.state, State::Rejected)) {
            entry.state = State::Done;
            self.pop_done();
        }
    }

    /// What is to be committed, if it is not yet.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        self.watermark.filter(|watermark| self.committed.is_none_or(|committed| committed < *watermark))
    }

    /// Everything before `offset` is committed.
    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(Some(offset));
        for (_, receipt) in self.receipts.extract_if(.., |(at, _)| *at < offset) {
            receipt.complete(Ok(()));
        }
    }

    /// Where the next reader of the partition would go on.
    pub(crate) fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// How many are handed out and unsettled.
    pub(crate) fn outstanding(&self) -> usize {
        self.out
    }

    /// Names what is handed out and unsettled, of this scope.
    pub(crate) fn tokens(&self, scope: u64) -> Vec<Token> {
        let out = |entry: &&Entry| matches!(entry.state, State::Out(_) | State::Behind(..));
        self.entries.iter().filter(out).map(|entry| entry.token(scope)).collect()
    }

    /// Takes note that a record was handled and waits for its outputs. False when it is not out.
    #[inline]
    pub(crate) fn handled(&mut self, token: Token) -> bool {
        let Some(entry) = self.entry(token.position.cast_signed()) else { return false };
        let out = matches!(entry.state, State::Out(_) | State::Behind(..));
        if !out || entry.deliveries != token.delivery || std::mem::replace(&mut entry.handled, true) {
            return false;
        }
        self.handled += 1;
        true
    }

    /// A record is out no more.
    #[inline]
    fn leaves(&mut self, handled: bool) {
        self.out -= 1;
        self.handled -= usize::from(handled);
    }

    /// How many are on their way to the dead-letter topic.
    pub(crate) fn rejected(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Rejected)).count()
    }

    /// Ends the assignment: who still waits hears why there will be no commit.
    pub(crate) fn lose(self, why: impl Fn() -> SettleError) {
        self.receipts.into_iter().for_each(|(_, receipt)| receipt.complete(Err(why())));
    }

    /// The nacked record that comes next, or when it is due.
    fn next_nacked(&mut self, ordered: bool, now: Instant) -> Result<Handed, Instant> {
        let mut next: Option<(usize, Instant)> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            let State::Due(due, _) = entry.state else { continue };
            if next.is_none_or(|(_, earliest)| due < earliest) {
                next = Some((at, due));
            }
            if ordered || due <= now {
                break;
            }
        }
        // There is one, for `nacked` counts them.
        let Some((at, due)) = next.filter(|(_, due)| *due <= now) else {
            return Err(next.map_or(now, |(_, due)| due));
        };
        let entry = &mut self.entries[at];
        let State::Due(_, message) = std::mem::replace(&mut entry.state, State::Done) else {
            return Err(due);
        };
        entry.state = State::Out(message.clone());
        entry.attempts = entry.attempts.saturating_add(1);
        entry.deliveries = entry.deliveries.wrapping_add(1);
        let Entry { offset, attempts: attempt, deliveries: delivery, timestamp, .. } = *entry;
        let handed = Handed { offset, attempt, delivery, timestamp, message };
        self.nacked -= 1;
        self.out += 1;
        Ok(handed)
    }

    #[inline]
    fn pop_done(&mut self) {
        while let Some(entry) = self.entries.front().filter(|entry| matches!(entry.state, State::Done)) {
            self.watermark = Some(entry.offset + 1);
            self.entries.pop_front();
            self.enlisted.covered = self.enlisted.covered.saturating_sub(1);
        }
    }

    fn out(&mut self, offset: i64) -> Option<&mut Entry> {
        self.entry(offset).filter(|entry| matches!(entry.state, State::Out(_)))
    }

    #[inline]
    fn entry(&mut self, offset: i64) -> Option<&mut Entry> {
        let at = self.position(offset)?;
        self.entries.get_mut(at)
    }

    #[inline]
    fn position(&self, offset: i64) -> Option<usize> {
        let first = self.entries.front()?.offset;
        // Where there are no gaps, which is nearly always.
        let guess = usize::try_from(offset.checked_sub(first)?).ok()?;
        match self.entries.get(guess) {
            Some(entry) if entry.offset == offset => Some(guess),
            _ => self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok(),
        }
    }
}

#[cfg(test)]
mod tests;
