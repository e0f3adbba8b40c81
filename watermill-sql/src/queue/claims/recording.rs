//! What is recorded of the rows, and kept until it is.

use std::collections::HashSet;

use tokio::time::Instant;

use super::{
    Claims,
    unsaved::{Done, PassedOn, Released},
};
use crate::queue::dialect::KeyClaim;

impl Claims {
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
}
