//! What a queue over a table that is not ours does beside: our claims are rows of a queue of ours, which have the ids of
//! those of the other table and nothing else.
//!
//! A row of the other table may be deleted at any time, by us too: a worker that has looked for what is not claimed
//! may add a claim after another has handled that row and is done with it. So what is claimed is read anew, and a claim
//! without a row is done with.
//!
//! How large rows are is not known when they are claimed: what does not fit is let go again, and fewer are claimed from then
//! on.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use super::QueueReader;
use crate::{
    error::{Failure, classify},
    queue::{
        claims::Done,
        dialect::{Claim, Claimed, Release},
        ordered::OrderedDialect,
    },
    source::{Mapping, Passed},
};

/// How many claims one statement forgets whose rows are done and gone.
const FORGET_AT_ONCE: usize = 1_000;

impl<D: OrderedDialect> QueueReader<D> {
    /// Adds claims for rows that have none.
    pub(super) async fn claim_new(&self, connection: &mut D::Connection, limit: usize) -> sqlx::Result<()> {
        let tables = &self.queue.tables;
        let Some(mapping) = tables.mapping() else { return Ok(()) };
        let ids = D::unclaimed(connection, tables, mapping, limit).await?;
        match ids.is_empty() {
            true => Ok(()),
            false => D::add_claims(connection, tables, &ids).await,
        }
    }

    /// How many rows to claim, so that most claims bring no more than fits.
    pub(super) fn fitting(&self, limit: usize) -> usize {
        match self.queue.tables.mapping() {
            Some(_) => limit.min(self.fitting.load(Ordering::Relaxed)).max(1),
            None => limit,
        }
    }

    /// Reads what was claimed, as much as fits; the rest is let go. Returns the claims whose rows are no longer there,
    /// which are taken out, and whether some did not fit.
    pub(super) async fn fill(
        &self,
        connection: &mut D::Connection,
        claimed: &mut Vec<Claimed>,
    ) -> sqlx::Result<(Vec<Claim>, bool)> {
        let Some(mapping) = self.queue.tables.mapping().filter(|_| !claimed.is_empty()) else {
            return Ok((Vec::new(), false));
        };
        let unfit = self.take_out_what_does_not_fit(connection, mapping, claimed).await?;
        let ids: Vec<String> = claimed.iter().filter_map(id).collect();
        let rows = match ids.is_empty() {
            true => Vec::new(),
            false => D::rows_by_id(connection, mapping, &ids).await?,
        };
        let mut rows: HashMap<String, _> = rows.into_iter().map(|found| (found.id, found.row)).collect();
        let mut gone = Vec::new();
        for mut filled in std::mem::take(claimed) {
            match id(&filled).and_then(|id| rows.remove(&id)) {
                Some(row) => {
                    (filled.row.message, filled.row.published_at) = (row.message, row.published_at);
                    claimed.push(filled);
                }
                None => gone.push(filled.claim),
            }
        }
        if !unfit.is_empty() {
            D::unclaim_rows(connection, &self.queue, &unfit).await?;
        }
        Ok((gone, !unfit.is_empty()))
    }

    /// At least one that is there stays, however large it is.
    async fn take_out_what_does_not_fit(
        &self,
        connection: &mut D::Connection,
        mapping: &Mapping,
        claimed: &mut Vec<Claimed>,
    ) -> sqlx::Result<Vec<Release>> {
        // One row always fits. How large it is matters where no more than one has fitted before.
        if claimed.is_empty() || claimed.len() == 1 && self.fitting(usize::MAX) > 1 {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = claimed.iter().filter_map(id).collect();
        let sizes: HashMap<String, i64> = match ids.is_empty() {
            true => HashMap::new(),
            false => D::sizes_by_id(connection, mapping, &ids).await?.into_iter().collect(),
        };
        let (mut bytes, mut fit) = (0_usize, 0_usize);
        let mut unfit = Vec::new();
        claimed.retain(|claimed| {
            // What is gone takes no room, and is found to be gone.
            let Some(size) = id(claimed).and_then(|id| sizes.get(&id).copied()) else { return true };
            bytes = bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            let fits = fit == 0 || unfit.is_empty() && bytes <= self.config.batch_bytes;
            match fits {
                true => fit += 1,
                false => unfit.push(Release { claim: claimed.claim, delay: Duration::ZERO, tried: false }),
            }
            fits
        });
        let fitting = match unfit.is_empty() {
            false => fit,
            true if bytes <= self.config.batch_bytes / 2 => self.fitting(usize::MAX).saturating_mul(2),
            true => return Ok(unfit),
        };
        self.fitting.store(fitting, Ordering::Relaxed);
        Ok(unfit)
    }

    /// What is in hand and whose rows are no longer there.
    pub(super) async fn gone(&self) -> Result<Vec<Claim>, Failure> {
        let Some(mapping) = self.queue.tables.mapping() else { return Ok(Vec::new()) };
        let held = self.shared.lock().ledger.held_ids();
        // What was in hand may be settled meanwhile, and MySQL knows no empty list.
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = held.iter().map(|(id, _)| id.clone()).collect();
        let there = self.over_a_connection(async |connection: &mut D::Connection| {
            D::ids_there(connection, mapping, &ids).await.map_err(classify::<D>)
        });
        let there: HashSet<String> = there.await?.into_iter().collect();
        Ok(held.into_iter().filter(|(id, _)| !there.contains(id)).map(|(_, claim)| claim).collect())
    }

    /// Whether something is to be done with the rows themselves.
    pub(super) fn passes(&self, done: &[Done]) -> bool {
        let passes = self.queue.tables.mapping().is_some_and(|mapping| mapping.pass.is_some());
        passes && done.iter().any(|done| done.id().is_some())
    }

    /// Deletes or marks the rows of what is done and ours.
    pub(super) async fn pass(
        &self,
        connection: &mut D::Connection,
        done: &[Done],
        ours: &HashSet<i64>,
    ) -> sqlx::Result<()> {
        let Some(mapping) = self.queue.tables.mapping() else { return Ok(()) };
        let ours = done.iter().filter(|done| ours.contains(&done.claim.offset));
        let ids: Vec<String> = ours.filter_map(Done::id).map(str::to_owned).collect();
        match ids.is_empty() {
            true => Ok(()),
            false => D::pass(connection, mapping, Passed::Ids(&ids)).await,
        }
    }

    /// Forgets claims that are done and whose rows somebody has deleted since.
    pub(super) async fn forget_claims(&self, connection: &mut D::Connection) -> sqlx::Result<()> {
        let tables = &self.queue.tables;
        match tables.mapping().filter(|mapping| mapping.pass.is_none()) {
            Some(mapping) => D::forget_claims(connection, tables, mapping, FORGET_AT_ONCE).await,
            None => Ok(()),
        }
    }
}

/// The id of a row of the other table, which its claim has.
fn id(claimed: &Claimed) -> Option<String> {
    claimed.row.message.as_ref().ok().map(|stored| stored.id().to_owned())
}
