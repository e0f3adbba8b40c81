//! [`Unsaved`]: what is settled and not recorded.

use tokio::time::Instant;
use watermill_core::{delivery::Receipt, error::SettleError};

use crate::{
    dead_letter::DeadLetter,
    queue::dialect::{Claim, KeyClaim, Release},
    settle::Rejected,
    stored::Stored,
};

#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) done: Vec<Done>,
    pub(super) released: Vec<Released>,
    pub(super) since: Option<Instant>,
    pub(super) awaited: bool,
}

/// A row that is to be deleted or marked.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) claim: Claim,
    /// `None` where the row is gone, or is no message.
    pub(super) message: Option<Stored>,
    pub(super) key: Option<KeyClaim>,
    /// Set for one that is not acked.
    pub(crate) rejected: Option<Rejected>,
    pub(super) receipt: Option<Receipt>,
}

/// A row that is to be let go.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) release: Release,
    pub(super) key: Option<KeyClaim>,
    pub(super) receipt: Option<Receipt>,
}

impl Done {
    /// What is moved to the dead-letter topic.
    pub(crate) fn kept(&self) -> Option<&DeadLetter> {
        self.rejected.as_ref()?.kept()
    }

    /// The id of the message, unless the row is gone.
    pub(crate) fn id(&self) -> Option<&str> {
        let dead_letter = || self.kept().map(|dead_letter| dead_letter.message.id().as_str());
        self.message.as_ref().map(Stored::id).or_else(dead_letter)
    }

    /// It is recorded, or somebody else had the row.
    pub(crate) fn complete(self, recorded: bool, topic: &str) {
        if let Some(rejected) = self.rejected.filter(|_| recorded) {
            rejected.log(topic);
        }
        if let Some(receipt) = self.receipt {
            receipt.complete(if recorded { Ok(()) } else { Err(SettleError::lost()) });
        }
    }
}

impl Released {
    /// It is recorded, or somebody else had the row.
    pub(crate) fn complete(self, recorded: bool) {
        if let Some(receipt) = self.receipt {
            receipt.complete(if recorded { Ok(()) } else { Err(SettleError::lost()) });
        }
    }
}

impl Unsaved {
    pub(super) fn push_done(&mut self, done: Done, now: Instant) {
        self.awaited |= done.receipt.is_some();
        self.done.push(done);
        self.since.get_or_insert(now);
    }

    pub(super) fn push_released(&mut self, released: Released, now: Instant) {
        self.awaited |= released.receipt.is_some();
        self.released.push(released);
        self.since.get_or_insert(now);
    }

    /// Takes up to `limit` rows that are to be deleted or marked.
    pub(super) fn take_done(&mut self, limit: usize) -> Vec<Done> {
        let done = self.done.drain(..limit.min(self.done.len())).collect();
        self.taken();
        done
    }

    /// Takes up to `limit` rows that are let go.
    pub(super) fn take_released(&mut self, limit: usize) -> Vec<Released> {
        let released = self.released.drain(..limit.min(self.released.len())).collect();
        self.taken();
        released
    }

    /// They were not recorded, and are to be tried again.
    pub(super) fn keep_done(&mut self, done: Vec<Done>, now: Instant) {
        self.awaited |= done.iter().any(|done| done.receipt.is_some());
        self.done.splice(0..0, done);
        self.since.get_or_insert(now);
    }

    /// They were not recorded, and are to be tried again.
    pub(super) fn keep_released(&mut self, released: Vec<Released>, now: Instant) {
        self.awaited |= released.iter().any(|released| released.receipt.is_some());
        self.released.splice(0..0, released);
        self.since.get_or_insert(now);
    }

    /// The keys of rows that are still ours, with their offsets.
    pub(super) fn keys(&mut self) -> impl Iterator<Item = (i64, &mut KeyClaim)> {
        let done = self.done.iter_mut().map(|done| (done.claim.offset, &mut done.key));
        let released =
            self.released.iter_mut().map(|released| (released.release.claim.offset, &mut released.key));
        done.chain(released).filter_map(|(offset, key)| Some((offset, key.as_mut()?)))
    }

    fn taken(&mut self) {
        if self.done.is_empty() && self.released.is_empty() {
            (self.awaited, self.since) = (false, None);
        }
    }
}
