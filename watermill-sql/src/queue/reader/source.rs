//! What a queue over a table that is not ours does beside: our claims are rows of a queue of ours, which have the ids of
//! those of the other table and nothing else.
//!
//! A row of the other table may be deleted at any time, by us too: a worker that has looked for what is not claimed
//! may add a claim after another has handled that row and is done with it. So what is claimed is read anew, and a claim
//! without a row is done with.

use std::collections::{HashMap, HashSet};

use super::QueueReader;
use crate::{
    error::{Failure, classify},
    queue::{
        claims::Done,
        dialect::{Claim, Claimed},
        ordered::OrderedDialect,
    },
    source::Passed,
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

    /// Reads what was claimed. Returns the claims whose rows are no longer there, which are taken out.
    pub(super) async fn fill(
        &self,
        connection: &mut D::Connection,
        claimed: &mut Vec<Claimed>,
    ) -> sqlx::Result<Vec<Claim>> {
        let Some(mapping) = self.queue.tables.mapping().filter(|_| !claimed.is_empty()) else {
            return Ok(Vec::new());
        };
        let id = |claimed: &Claimed| claimed.row.message.as_ref().ok().map(|stored| stored.id().to_owned());
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
                    filled.row.message = row.message;
                    claimed.push(filled);
                }
                None => gone.push(filled.claim),
            }
        }
        Ok(gone)
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
