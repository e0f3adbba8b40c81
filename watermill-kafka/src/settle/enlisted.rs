//! What a pair of subscriber and exactly-once publisher asks of a [`Shared`].

use std::sync::Arc;

use watermill_core::delivery::Token;

use super::{Shared, Together};
use crate::{
    assigned::scope,
    ledger::{EnlistedState, Enlistment, Ledger},
};

impl Shared {
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
    pub(crate) fn together(&self) -> Option<&Arc<dyn Together>> {
        self.together.as_ref()
    }

    /// Enlists a delivery in the open transaction.
    pub(crate) fn enlist(&self, token: Token) -> Enlistment {
        let mut state = self.lock();
        if state.ended {
            return Enlistment::Lost;
        }
        let part = state.assigned.scope(token.scope);
        part.map_or(Enlistment::Lost, |part| part.ledger.enlist(token.position.cast_signed()))
    }

    /// Takes a record out again of which nothing has been published.
    pub(crate) fn withdraw_enlisted(&self, token: Token) {
        if let Some(part) = self.lock().assigned.scope(token.scope) {
            part.ledger.withdraw_enlisted(token.position.cast_signed());
        }
    }

    /// Whether a delivery is enlisted in the open transaction.
    pub(crate) fn is_enlisted(&self, token: Token) -> bool {
        let mut state = self.lock();
        let part = state.assigned.scope(token.scope);
        part.is_some_and(|part| part.ledger.is_enlisted(token.position.cast_signed()))
    }

    /// What became of the enlisted records of a scope.
    pub(crate) fn enlisted_state(&self, scope: u64) -> EnlistedState {
        let mut state = self.lock();
        let ended = state.ended;
        match state.assigned.scope(scope).map(|part| part.ledger.enlisted_state()) {
            // Nobody's word counts any more.
            Some(EnlistedState::NotYet) if ended => EnlistedState::No,
            Some(kept) => kept,
            None => EnlistedState::No,
        }
    }

    pub(super) fn enlisted_changed(&self) {
        if let Some(together) = &self.together {
            together.settled(false);
        }
    }

    /// Whether anything is to be committed, or enlisted for it.
    pub(crate) fn is_uncommitted(&self) -> bool {
        let state = self.lock();
        let mut parts = state.assigned.iter();
        self.commits
            && parts.any(|(_, part)| {
                part.ledger.uncommitted().is_some() || part.ledger.enlisted_state() != EnlistedState::Yes
            })
    }
}
