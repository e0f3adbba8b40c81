//! [`ByPosition`]: the ledger of a backend whose groups have a position in a log.

mod partition;

use std::{collections::BTreeMap, fmt, time::SystemTime};

use tokio::time::Instant;

use self::partition::{Partition, Turn};
use super::{Ledger, Offer, Unrecorded, ledger::complete};
use crate::{
    Message, Window,
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

/// Messages of a log that a group reads in order, and of which it remembers how far it is: one position, or one
/// for each partition. What is done behind an unsettled message moves nothing until that one is done; after a
/// crash it comes again. A nacked message is kept here and handed out again in its place.
///
/// The backend's task [assigns](Self::assign) the partitions it reads, [pushes](Self::push) what it has read as
/// long as there is [room](Self::room), records the [positions](Self::positions), and takes care of what was
/// [rejected](Self::take_rejected), which holds the position until it is [done with](Self::rejected_done).
///
/// Bounds: of each partition at most [`ahead`](Self::new) messages are fresh, and from the oldest unsettled
/// one on at most that many are in memory, or as many as the window's total, whichever is more. At the bound
/// there is no room until the oldest is settled.
pub struct ByPosition {
    partitions: BTreeMap<u32, Partition>,
    /// Tells the assignments of a partition apart: the word of an earlier one does not count.
    assignments: u32,
    /// The partition after which it is the turn of the next.
    turn: u32,
    window: Window,
    outstanding: usize,
    ahead: usize,
    /// How many were settled since the positions were recorded last, and since when one has moved.
    settled: usize,
    since: Option<Instant>,
}

/// A message that was rejected: the position does not pass it before
/// [`ByPosition::rejected_done`] is called.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// Names it, for [`ByPosition::rejected_done`].
    pub token: Token,
    /// The message.
    pub message: Message,
    /// Why, for whoever looks at the dead letter.
    pub reason: String,
    /// How often it was delivered.
    pub attempts: u32,
}

impl ByPosition {
    /// A ledger without partitions, that reads up to `ahead` messages of each beyond what is handed out.
    pub fn new(ahead: usize) -> Self {
        Self {
            partitions: BTreeMap::new(),
            assignments: 0,
            turn: 0,
            window: Window::ONE,
            outstanding: 0,
            ahead: ahead.max(1),
            settled: 0,
            since: None,
        }
    }

    /// A partition is ours from now on; a log without partitions has the number 0. `position` is where the
    /// group goes on: what is before it is done. An assignment that there was is forgotten; see
    /// [`revoke`](Self::revoke).
    pub fn assign(&mut self, partition: u32, position: u64) {
        self.assignments += 1;
        let scope = u64::from(self.assignments) << 32 | u64::from(partition);
        if let Some(before) = self.partitions.insert(partition, Partition::new(scope, position)) {
            self.outstanding -= before.outstanding();
            before.lose(SettleError::lost);
        }
    }

    /// A partition is not ours any more. Returns the tokens of what was outstanding, for
    /// [`Origin::revoke`](crate::delivery::Origin::revoke); receipts that wait fail. Record the position before,
    /// where there is time for that.
    pub fn revoke(&mut self, partition: u32) -> Vec<Token> {
        let Some(revoked) = self.partitions.remove(&partition) else { return Vec::new() };
        let tokens: Vec<_> = revoked.tokens().collect();
        self.outstanding -= tokens.len();
        revoked.lose(SettleError::lost);
        tokens
    }

    /// How many messages to read of a partition; none of one that is not ours.
    pub fn room(&self, partition: u32) -> usize {
        let span = self.ahead.max(self.window.total());
        self.partitions.get(&partition).map_or(0, |partition| partition.room(self.ahead, span))
    }

    /// Takes in the next message of a partition. `offset` is larger than that of all before; one that is not, as
    /// a client that reads again after an error may offer, and one of a partition that is not ours, is ignored.
    pub fn push(&mut self, partition: u32, offset: u64, message: Message, published_at: Option<SystemTime>) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.push(offset, message, published_at);
        }
    }

    /// The partitions whose position is to be recorded, each with the offset at which its next reader goes on.
    pub fn positions(&self) -> Vec<(u32, u64)> {
        let unrecorded = |(number, partition): (&u32, &Partition)| Some((*number, partition.unrecorded()?));
        self.partitions.iter().filter_map(unrecorded).collect()
    }

    /// The group has these positions, as [`positions`](Self::positions) has told them.
    pub fn recorded(&mut self, positions: &[(u32, u64)]) {
        for (number, position) in positions {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.recorded(*position);
            }
        }
        self.settled = 0;
        self.since = self.since.filter(|_| self.partitions.values().any(Partition::has_work));
    }

    /// Recording has failed, and is to be tried again.
    pub fn not_recorded(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Up to `limit` messages that were rejected: to be moved to the dead-letter topic, or to be dropped with
    /// an error in the log.
    pub fn take_rejected(&mut self, limit: usize) -> Vec<Rejected> {
        let rejected = self.partitions.values_mut().flat_map(Partition::take_rejected);
        let (taken, left): (Vec<_>, Vec<_>) = rejected.enumerate().partition(|(at, _)| *at < limit);
        left.into_iter().for_each(|(_, rejected)| self.keep_rejected(rejected));
        taken.into_iter().map(|(_, rejected)| rejected).collect()
    }

    /// A rejected message could not be moved, and is to be tried again.
    pub fn keep_rejected(&mut self, rejected: Rejected) {
        if let Some(partition) = self.partition(rejected.token.scope) {
            partition.keep_rejected(rejected);
        }
    }

    /// A rejected message is where it belongs: the position may pass it.
    pub fn rejected_done(&mut self, token: Token, now: Instant) {
        let Some(partition) = self.partition(token.scope) else { return };
        partition.rejected_done(token);
        if partition.has_work() {
            self.since.get_or_insert(now);
        }
    }

    /// The partition of an assignment.
    fn partition(&mut self, scope: u64) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(&number(scope))?;
        (partition.scope() == scope).then_some(partition)
    }
}

impl Ledger for ByPosition {
    /// Partitions take turns.
    fn next(&mut self, now: Instant) -> Offer {
        if self.outstanding >= self.window.total() {
            return Offer::Nothing(None);
        }
        let mut due: Option<Instant> = None;
        let (before, after) = (..=self.turn, self.turn.saturating_add(1)..);
        let numbers =
            self.partitions.range(after).chain(self.partitions.range(before)).map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            match partition.next(self.window, now) {
                Turn::Handed(handed) => {
                    self.outstanding += 1;
                    self.turn = number;
                    return Offer::Handed(handed.partition(i32::try_from(number).ok()));
                }
                Turn::Nothing(at) => due = due.into_iter().chain(at).min(),
            }
        }
        Offer::Nothing(due)
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let Some(partition) = self.partition(token.scope).filter(|partition| partition.is_outstanding(token))
        else {
            complete(receipt, Err(SettleError::lost()));
            return false;
        };
        partition.settle(token, outcome, receipt, now);
        let has_work = partition.has_work();
        self.outstanding -= 1;
        self.settled += 1;
        if has_work {
            self.since.get_or_insert(now);
        }
        true
    }

    fn handled(&mut self, token: Token) -> bool {
        self.partition(token.scope).is_some_and(|partition| partition.handled(token))
    }

    fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// When half of what may be fresh is left in a partition.
    fn wants_more(&self) -> bool {
        let half = self.ahead / 2;
        self.partitions.iter().any(|(number, partition)| partition.fresh() <= half && self.room(*number) > 0)
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn tokens(&self) -> Vec<Token> {
        self.partitions.values().flat_map(Partition::tokens).collect()
    }

    /// Awaited where recording would complete a receipt (an ack behind an unsettled message waits for that), or
    /// where something was rejected.
    fn unrecorded(&self) -> Unrecorded {
        if self.since.is_none() {
            return Unrecorded::default();
        }
        let awaited = self.partitions.values().any(Partition::is_awaited);
        Unrecorded { count: self.settled.max(1), since: self.since, awaited }
    }

    fn give_back(&mut self, now: Instant) {
        self.partitions.values_mut().for_each(|partition| partition.give_back(now));
        self.outstanding = 0;
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        std::mem::take(&mut self.partitions).into_values().for_each(|partition| partition.lose(why));
        (self.outstanding, self.settled, self.since) = (0, 0, None);
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.partitions.values().filter_map(Partition::oldest).min()
    }
}

impl fmt::Debug for ByPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByPosition")
            .field("partitions", &self.partitions.len())
            .field("outstanding", &self.outstanding)
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}

/// The partition that a scope is of.
fn number(scope: u64) -> u32 {
    scope as u32
}

#[cfg(test)]
mod tests;
