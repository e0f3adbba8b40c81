//! What a pair of subscriber and exactly-once publisher asks of a [`Desk`].

use std::sync::Arc;

use watermill_core::delivery::Token;

use super::Desk;
use crate::{
    assigned::scope,
    ledger::{Kept, Ledger, Promise},
    transactions::Pair,
};

impl Desk {
    /// The same, if the partition is ours in this assignment.
    pub(crate) fn revoke_scope(&self, scope: u64) -> Option<(u64, Ledger)> {
        let held = self.lock().assigned.scope(scope).is_some();
        if held { self.revoke(scope::partition(scope)) } else { None }
    }

    /// Whether a partition is ours.
    pub(crate) fn has(&self, partition: i32) -> bool {
        self.lock().assigned.partition(partition).is_some()
    }

    /// Whether deliveries of this scope can be settled still.
    pub(crate) fn holds(&self, scope: u64) -> bool {
        let mut state = self.lock();
        !state.ended && state.assigned.scope(scope).is_some()
    }

    /// The transactions that positions are committed in, if any.
    pub(crate) fn pair(&self) -> Option<&Arc<Pair>> {
        self.pair.as_ref()
    }

    /// Promises a delivery to the open transaction.
    pub(crate) fn promise(&self, token: Token) -> Promise {
        let mut state = self.lock();
        if state.ended {
            return Promise::Lost;
        }
        let part = state.assigned.scope(token.scope);
        part.map_or(Promise::Lost, |part| part.ledger.promise(token.position.cast_signed()))
    }

    /// Takes a promise back of which nothing has been published.
    pub(crate) fn unpromise(&self, token: Token) {
        if let Some(part) = self.lock().assigned.scope(token.scope) {
            part.ledger.unpromise(token.position.cast_signed());
        }
    }

    /// Whether a delivery is promised to the open transaction.
    pub(crate) fn is_promised(&self, token: Token) -> bool {
        let mut state = self.lock();
        let part = state.assigned.scope(token.scope);
        part.is_some_and(|part| part.ledger.is_promised(token.position.cast_signed()))
    }

    /// What became of the promises of a scope.
    pub(crate) fn kept(&self, scope: u64) -> Kept {
        let mut state = self.lock();
        let ended = state.ended;
        match state.assigned.scope(scope).map(|part| part.ledger.kept()) {
            // Nobody's word counts any more.
            Some(Kept::NotYet) if ended => Kept::No,
            Some(kept) => kept,
            None => Kept::No,
        }
    }

    pub(super) fn promises_changed(&self) {
        if let Some(pair) = &self.pair {
            pair.promises_changed();
        }
    }

    /// Whether anything is to be committed, or promised to be.
    pub(crate) fn is_uncommitted(&self) -> bool {
        let state = self.lock();
        let mut parts = state.assigned.iter();
        self.commits
            && parts.any(|(_, part)| part.ledger.uncommitted().is_some() || part.ledger.kept() != Kept::Yes)
    }
}
