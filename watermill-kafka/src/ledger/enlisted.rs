//! What of a partition is enlisted in the open transaction of an exactly-once publisher.

use watermill_core::{delivery::Receipt, error::SettleError};

use super::{Entry, Ledger, State};

/// Records of which something has been published in the open transaction: they are enlisted, to be done
/// when it is committed.
#[derive(Debug, Default)]
pub(super) struct Enlisted {
    /// How many entries, from the front on, are done or enlisted.
    pub(super) covered: usize,
    /// How many are enlisted and not done.
    pub(super) open: usize,
    /// Whether an enlisted one was not done after all.
    pub(super) broken: bool,
}

/// Whether a record can be enlisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enlistment {
    /// It is.
    Made,
    /// Not before those before it are: the group's position could not pass them.
    Early,
    /// One before it was nacked and comes again, and so does it, whatever is said of it from now on.
    Behind,
    /// It is not in hand.
    Lost,
}

/// What became of the enlisted records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnlistedState {
    Yes,
    NotYet,
    No,
}

/// A partition that is to be read again.
#[derive(Debug)]
pub(crate) struct Reread {
    /// Where to begin if nothing of it is committed.
    pub(crate) start: Option<i64>,
    /// Where it was read up to. What is committed beyond is of another log, that was there before.
    pub(crate) end: Option<i64>,
    pub(crate) ledger: Ledger,
}

impl Ledger {
    /// Enlists a record that is in hand in the open transaction.
    pub(crate) fn enlist(&mut self, offset: i64) -> Enlistment {
        let Some(at) = self.position(offset) else { return Enlistment::Lost };
        if !matches!(self.entries[at].state, State::Out(_)) {
            return Enlistment::Lost;
        }
        let Enlisted { covered, open, .. } = &mut self.enlisted;
        let is_covered = |entry: &Entry| entry.enlisted || matches!(entry.state, State::Done);
        while self.entries.get(*covered).is_some_and(is_covered) {
            *covered += 1;
        }
        if at > *covered {
            let due = |entry: &Entry| if let State::Due(due, _) = entry.state { Some(due) } else { None };
            let before = self.entries.range(*covered..at);
            return match before.filter_map(due).max().filter(|_| self.nacked > 0) {
                Some(due) => {
                    let entry = &mut self.entries[at];
                    if let State::Out(message) = &entry.state {
                        entry.state = State::Behind(due, message.clone());
                    }
                    Enlistment::Behind
                }
                None => Enlistment::Early,
            };
        }
        if !std::mem::replace(&mut self.entries[at].enlisted, true) {
            *open += 1;
        }
        Enlistment::Made
    }

    /// A word on a record that is not out does not count. One that was put behind others comes again after them:
    /// that was not its fault, and its attempt does not count either.
    #[cold]
    pub(super) fn not_out(&mut self, offset: i64, receipt: Option<Receipt>) {
        if let Some(entry) = self.entry(offset)
            && let State::Behind(due, message) = &entry.state
        {
            entry.state = State::Due(*due, message.clone());
            entry.attempts -= 1;
            let handled = std::mem::take(&mut entry.handled);
            self.leaves(handled);
            self.nacked += 1;
        }
        if let Some(receipt) = receipt {
            receipt.complete(Err(SettleError::lost()));
        }
    }

    /// Takes a record out again of which nothing has been published.
    pub(crate) fn withdraw_enlisted(&mut self, offset: i64) {
        let Some(at) = self.position(offset) else { return };
        if std::mem::take(&mut self.entries[at].enlisted) {
            self.enlisted.open -= 1;
            self.enlisted.covered = self.enlisted.covered.min(at);
        }
    }

    /// Whether a record is enlisted.
    pub(crate) fn is_enlisted(&self, offset: i64) -> bool {
        self.position(offset).is_some_and(|at| self.entries[at].enlisted)
    }

    /// What became of what was enlisted.
    pub(crate) fn enlisted_state(&self) -> EnlistedState {
        match self.enlisted {
            Enlisted { broken: true, .. } => EnlistedState::No,
            Enlisted { open: 0, .. } => EnlistedState::Yes,
            _ => EnlistedState::NotYet,
        }
    }

    /// How the partition is to be read again; attempts go on being counted.
    pub(crate) fn reread(&self) -> Reread {
        let unsettled = |entry: &&Entry| !matches!(entry.state, State::Done);
        let attempts = self.entries.iter().filter(unsettled).map(|entry| (entry.offset, entry.attempts));
        let mut earlier = self.earlier.clone();
        earlier.extend(attempts);
        Reread {
            start: self.committed.or(self.first),
            end: self.expects(),
            ledger: Self { earlier, ..Self::default() },
        }
    }
}
