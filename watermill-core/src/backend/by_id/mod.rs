//! [`ById`]: the ledger of a backend whose messages are settled one by one.

mod incoming;
mod scopes;
mod settled;

pub use self::{
    incoming::{InHand, Incoming, key_scope},
    settled::Settled,
};

use std::{
    collections::HashMap,
    fmt, mem,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use self::{scopes::Scopes, settled::Queue};
use super::{
    Handed, Ledger, Offer, Unrecorded,
    ledger::{DELAY_MAX, complete},
};
use crate::{
    Window,
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

/// Messages that are settled each for itself, by an id of the server's: an ack id, a delivery tag, the id of
/// an entry or a row. `I` is that id, with whatever else names the message for as long as it is in hand: the
/// number of the connection for instance, where tags count anew on each.
///
/// The backend's task [pushes](Self::push) what has come, as long as there is [`room`](Self::room), and
/// [takes](Self::take_settled) what is to be told to the server. A message that comes again from the server
/// is another one, with another token: a late word on what was is never taken for one on what is.
///
/// Bounds: no more is wanted than the window lets out and [`ById::ahead`] besides. What is pushed beyond that
/// is kept; it is the server that has to be told a prefetch or flow control. Acks that could not be recorded
/// are as many as were outstanding.
pub struct ById<I> {
    entries: HashMap<u64, Entry<I>>,
    /// Names the next entry; never used twice.
    next: u64,
    scopes: Scopes,
    window: Window,
    /// How many of the entries are outstanding, and how many of those are handled.
    outstanding: usize,
    handled: usize,
    settled: Queue<I>,
    nacks: Nacks,
    ahead: usize,
    scoped: bool,
}

/// What happens with a message that is nacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nacks {
    /// The server is told, and delivers it again, to anybody. In an ordered window the fresh messages of its
    /// scope are given back with it, so that none of them overtakes it.
    #[default]
    ToServer,
    /// It is kept here and handed out again when its delay has passed: for a server that knows no nack. The
    /// task has to keep it from running out meanwhile, see [`ById::in_hand`].
    KeptHere,
    /// It is over, as with an ack, and what is behind it stays here: for a server that forgets what it has delivered.
    Forgotten,
    /// Kept here in an ordered window, so that nothing overtakes it and what is behind it is not given back. In an
    /// unordered one the server is told, so that it comes to anybody. The task has to keep what is kept from running out, as
    /// with [`KeptHere`](Self::KeptHere).
    ByWindow,
}

struct Entry<I> {
    incoming: Incoming<I>,
    since: Instant,
    /// How often it was handed out here.
    deliveries: u32,
    /// While it is handed out: whether it is handled.
    outstanding: Option<bool>,
}

impl<I> ById<I> {
    /// A ledger with nothing in hand.
    pub fn new(nacks: Nacks) -> Self {
        Self {
            entries: HashMap::new(),
            next: 1,
            scopes: Scopes::default(),
            window: Window::ONE,
            outstanding: 0,
            handled: 0,
            settled: Queue::default(),
            nacks,
            ahead: 0,
            scoped: false,
        }
    }

    /// Sets how many messages may be fresh beyond what the window lets out at once. Default: 0, so that what
    /// nobody works on stays with the server, for others.
    #[must_use]
    pub fn ahead(mut self, messages: usize) -> Self {
        self.ahead = messages;
        self
    }

    /// Says that the messages have [scopes](Incoming::scope), so that as many are wanted as the window lets out
    /// in all of them together. Otherwise all are of one.
    #[must_use]
    pub fn scoped(mut self) -> Self {
        self.scoped = true;
        self
    }

    /// How many messages to fetch.
    pub fn room(&self) -> usize {
        let total = self.window.total().saturating_sub(self.outstanding);
        let handling = self.outstanding - self.handled;
        let free =
            if self.scoped { total } else { total.min(self.window.per_scope().saturating_sub(handling)) };
        (free + self.ahead).saturating_sub(self.waiting())
    }

    /// The window, for a backend that derives a prefetch or a flow control from it.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Takes in a message that has come at `now`.
    pub fn push(&mut self, incoming: Incoming<I>, now: Instant) {
        let (sequence, scope) = (self.next, incoming.scope);
        self.next += 1;
        self.entries.insert(sequence, Entry { incoming, since: now, deliveries: 0, outstanding: None });
        self.scopes.push(scope, sequence);
    }

    /// Takes up to `limit` messages that the server is to be told of, in the order in which they were settled.
    /// Each is [recorded](Settled::recorded), [lost](Settled::lost) or [kept](Self::keep_settled) afterwards.
    pub fn take_settled(&mut self, limit: usize) -> Vec<Settled<I>> {
        self.settled.take(limit)
    }

    /// The server could not be told, and is to be tried again.
    pub fn keep_settled(&mut self, settled: Vec<Settled<I>>, now: Instant) {
        self.settled.put_back(settled, now);
    }

    /// What is in hand and unsettled, in no order: what must not run out.
    pub fn in_hand(&self) -> impl Iterator<Item = InHand<'_, I>> {
        self.entries.values().map(|entry| InHand {
            id: &entry.incoming.id,
            since: entry.since,
            outstanding: entry.outstanding.is_some(),
        })
    }

    /// How many are in hand and unsettled.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets messages that are not ours any more (a deadline that passed, a channel that is gone), settled
    /// ones included, whose receipts fail. Returns the tokens of those that were outstanding. See
    /// [`Shared::lose_where`](super::Shared::lose_where).
    pub fn lose_where(&mut self, mut lost: impl FnMut(&I) -> bool) -> Vec<Token> {
        self.settled.lose_where(&mut lost);
        let gone: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| lost(&entry.incoming.id))
            .map(|(sequence, _)| *sequence)
            .collect();
        gone.into_iter().filter_map(|sequence| self.forget(sequence)).collect()
    }

    /// Nacks what is not outstanding, oldest first: what is fresh is free for others as soon as intake has
    /// stopped, and not only when the last delivery that is out has settled.
    pub fn give_back_fresh(&mut self, now: Instant) {
        let due = self.scopes.take_due();
        let fresh = self.entries.iter().filter(|(_, entry)| entry.outstanding.is_none());
        let mut fresh: Vec<u64> = fresh.map(|(sequence, _)| *sequence).collect();
        fresh.sort_unstable();
        for sequence in fresh {
            let Some(entry) = self.entries.remove(&sequence) else { continue };
            self.scopes.remove(entry.incoming.scope, sequence);
            let delay = due.get(&sequence).map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
            self.tell_server(entry, Outcome::Nack { delay }, None, now);
        }
    }

    /// Takes one out of all accounts; its token, if it was outstanding.
    fn forget(&mut self, sequence: u64) -> Option<Token> {
        let entry = self.entries.remove(&sequence)?;
        let scope = entry.incoming.scope;
        let Some(handled) = entry.outstanding else {
            self.scopes.remove(scope, sequence);
            return None;
        };
        self.leave(scope, handled);
        Some(Token { scope, position: sequence, delivery: entry.deliveries })
    }

    fn leave(&mut self, scope: u64, handled: bool) {
        self.outstanding -= 1;
        self.handled -= usize::from(handled);
        self.scopes.leave(scope, handled);
    }

    fn waiting(&self) -> usize {
        self.entries.len() - self.outstanding
    }

    fn find(&mut self, token: Token) -> Option<&mut Entry<I>> {
        let entry = self.entries.get_mut(&token.position)?;
        (entry.outstanding.is_some() && entry.deliveries == token.delivery).then_some(entry)
    }

    /// Leaves an entry to the task, to be told to the server.
    fn tell_server(&mut self, entry: Entry<I>, outcome: Outcome, receipt: Option<Receipt>, now: Instant) {
        let Incoming { id, message, attempt, .. } = entry.incoming;
        let attempt = attempt.saturating_add(entry.deliveries.saturating_sub(1));
        let tried = entry.deliveries > 0;
        self.settled.push(Settled { id, outcome, tried, attempt, message, receipt }, now);
    }

    fn nack(&mut self, sequence: u64, delay: Duration, receipt: Option<Receipt>, now: Instant) {
        let keeps = match self.nacks {
            Nacks::ToServer | Nacks::Forgotten => false,
            Nacks::KeptHere => true,
            Nacks::ByWindow => self.window.is_ordered(),
        };
        if keeps {
            let Some(entry) = self.entries.get_mut(&sequence) else { return };
            entry.outstanding = None;
            let due = (!delay.is_zero()).then(|| now + delay.min(DELAY_MAX));
            self.scopes.put_back(entry.incoming.scope, sequence, due, self.window.is_ordered());
            return complete(receipt, Ok(()));
        }
        let Some(entry) = self.entries.remove(&sequence) else { return };
        let scope = entry.incoming.scope;
        self.tell_server(entry, Outcome::Nack { delay }, receipt, now);
        if self.window.is_ordered() && self.nacks != Nacks::Forgotten {
            for behind in self.scopes.take_waiting(scope) {
                if let Some(entry) = self.entries.remove(&behind) {
                    self.tell_server(entry, Outcome::Nack { delay: Duration::ZERO }, None, now);
                }
            }
        }
    }
}

impl<I: Send + 'static> Ledger for ById<I> {
    fn next(&mut self, now: Instant) -> Offer {
        if self.outstanding >= self.window.total() {
            return Offer::Nothing(None);
        }
        let sequence = match self.scopes.next(self.window, now) {
            Ok(sequence) => sequence,
            Err(due) => return Offer::Nothing(due),
        };
        let Some(entry) = self.entries.get_mut(&sequence) else { return Offer::Nothing(None) };
        entry.outstanding = Some(false);
        entry.deliveries = entry.deliveries.saturating_add(1);
        self.outstanding += 1;
        let Entry { incoming, deliveries, .. } = entry;
        let token = Token { scope: incoming.scope, position: sequence, delivery: *deliveries };
        let handed = Handed::new(token, incoming.message.clone())
            .attempt(incoming.attempt.saturating_add(*deliveries - 1))
            .redelivered(incoming.redelivered)
            .published_at(incoming.published_at);
        Offer::Handed(handed)
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let Some(entry) = self.find(token) else {
            complete(receipt, Err(SettleError::lost()));
            return false;
        };
        let (scope, handled) = (entry.incoming.scope, entry.outstanding.unwrap_or_default());
        self.leave(scope, handled);
        match outcome {
            Outcome::Nack { delay } => self.nack(token.position, delay, receipt, now),
            outcome => {
                if let Some(entry) = self.entries.remove(&token.position) {
                    self.tell_server(entry, outcome, receipt, now);
                }
            }
        }
        true
    }

    fn handled(&mut self, token: Token) -> bool {
        let Some(entry) = self.find(token) else { return false };
        let scope = entry.incoming.scope;
        if entry.outstanding.replace(true) == Some(true) {
            return false;
        }
        self.handled += 1;
        self.scopes.handled(scope);
        true
    }

    fn set_window(&mut self, window: Window) {
        self.scopes.arrange(window.is_ordered());
        self.window = window;
    }

    /// When half of what may be fresh is left.
    fn wants_more(&self) -> bool {
        self.waiting() <= self.ahead / 2 && self.room() > 0
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn tokens(&self) -> Vec<Token> {
        let outstanding = self.entries.iter().filter(|(_, entry)| entry.outstanding.is_some());
        outstanding
            .map(|(sequence, entry)| Token {
                scope: entry.incoming.scope,
                position: *sequence,
                delivery: entry.deliveries,
            })
            .collect()
    }

    fn unrecorded(&self) -> Unrecorded {
        self.settled.unrecorded()
    }

    /// Oldest first. A delay that was waited for here is left to the server as far as it has not passed.
    fn give_back(&mut self, now: Instant) {
        let due = self.scopes.take_due();
        let mut entries: Vec<_> = mem::take(&mut self.entries).into_iter().collect();
        entries.sort_unstable_by_key(|(sequence, _)| *sequence);
        for (sequence, entry) in entries {
            let delay = due.get(&sequence).map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
            self.tell_server(entry, Outcome::Nack { delay }, None, now);
        }
        self.scopes = Scopes::default();
        (self.outstanding, self.handled) = (0, 0);
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        self.entries.clear();
        self.scopes = Scopes::default();
        (self.outstanding, self.handled) = (0, 0);
        self.settled.fail(why);
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.entries.values().filter_map(|entry| entry.incoming.published_at).min()
    }
}

impl<I> fmt::Debug for ById<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ById")
            .field("in_hand", &self.entries.len())
            .field("outstanding", &self.outstanding)
            .field("unrecorded", &self.settled.unrecorded())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
