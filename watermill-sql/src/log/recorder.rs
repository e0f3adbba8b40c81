//! [`Recorder`]: who records what becomes of messages, one at a time: the reader of a term, and steps whose ack is part of
//! their own transaction.
//!
//! What is recorded is a position and what is done ahead of it, and each record replaces the one before. So whoever
//! records has the [`Recording`] from before it looks what there is until it knows what has become of it. Where
//! that cannot be known, a step cannot go on from it: the term ends, and the next one reads what is there, behind the locks
//! of whatever is still on its way.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, OwnedMutexGuard},
    task::unconstrained,
};

use super::{
    dialect::LogDialect,
    lease::Lease,
    ledger::{LogLedger, Save},
    renewals::Held,
};
use crate::{
    Layout, SqlPublisherConfig,
    connection::within,
    dead_letter::{DeadLetter, Keep},
    error::{Failure, Trouble, classify},
    publisher::{Over, Packet, insert_chunks},
    schema::Found,
    settle::Rejected,
    source::Passed,
    topic::Tables,
    wake,
};

/// Rows of a source that one statement deletes or marks.
const PASSED_AT_ONCE: usize = 1_000;

/// The records of one term of ownership.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Which kind of database it is.
    pub(crate) database: &'static str,
    tables: Tables,
    dead_letters: Option<Tables>,
    recording: Arc<Mutex<Recording>>,
    /// Whoever renews the lease with others has to know the position, too.
    held: Weak<Held>,
    /// Tells the reader that a step has left something for it.
    left: Notify,
}

/// The right to record. It is waited for with nothing locked in the database that another would need.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) lease: Lease,
    /// Whether the reader has sent something of which nobody knows whether it was done, or will be.
    unclear: bool,
    /// Whether nothing more can be recorded in this term.
    over: bool,
    /// How much of the dead letters is kept that are recorded next: less of those that were refused.
    keep: Keep,
}

impl Recorder {
    pub(crate) fn new<D: LogDialect>(
        lease: Lease,
        tables: Tables,
        dead_letters: Option<Tables>,
        held: Weak<Held>,
    ) -> Self {
        let recording =
            Arc::new(Mutex::new(Recording { lease, unclear: false, over: false, keep: Keep::All }));
        Self { database: D::NAME, tables, dead_letters, recording, held, left: Notify::new() }
    }

    /// The right to record, waited for within `limit`; `None` once the term is over.
    pub(crate) async fn hold(&self, limit: Duration) -> Result<Option<OwnedMutexGuard<Recording>>, Failure> {
        let held = self.hold_to_release(limit).await?;
        Ok(Some(held).filter(|recording| !recording.over))
    }

    /// The same for whoever gives the lease back, whether the term is over or not.
    pub(crate) async fn hold_to_release(
        &self,
        limit: Duration,
    ) -> Result<OwnedMutexGuard<Recording>, Failure> {
        // The place in the queue is taken by the first poll, whatever is left of the task's budget.
        within(limit, async { Ok(unconstrained(self.recording.clone().lock_owned()).await) }).await
    }

    /// The same for a step, whose ack must not be replaced by what was recorded before.
    pub(crate) async fn join(&self, limit: Duration) -> Result<Option<OwnedMutexGuard<Recording>>, Failure> {
        let held = self.hold(limit).await?;
        Ok(held.and_then(|mut recording| {
            recording.over = recording.unclear;
            Some(recording).filter(|recording| !recording.over)
        }))
    }

    /// A step has left something to be recorded by the reader, or room for rows.
    pub(crate) fn leaves(&self) {
        self.left.notify_one();
    }

    /// Waits for that.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed by dropping it: what happened meanwhile is told to the next wait.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// Writes a save in a transaction of the caller's; false when the lease is lost. That of a step is to be silent for no
    /// longer than `silence` from then on.
    pub(crate) async fn write<D: LogDialect>(
        &self,
        transaction: &mut D::Connection,
        recording: &Recording,
        save: &Save,
        silence: Option<Duration>,
    ) -> Result<bool, Failure> {
        let Save { position, progress, rejected, passed, .. } = save;
        let (lease, progress) = (&recording.lease, progress.as_deref());
        // First, because it compares: what follows is written by the owner of the lease.
        let advanced = match silence {
            Some(silence) => D::advance_in_step(transaction, lease, *position, progress, silence).await,
            None => D::advance(transaction, lease, *position, progress).await,
        };
        if !advanced.map_err(classify::<D>)? {
            return Ok(false);
        }
        if let Some(mapping) = self.tables.mapping() {
            for passed in passed.chunks(PASSED_AT_ONCE) {
                D::pass(transaction, mapping, Passed::Offsets(passed)).await.map_err(classify::<D>)?;
            }
        }
        let dead_letters: Vec<&DeadLetter> = rejected.iter().filter_map(Rejected::kept).collect();
        if let Some(tables) = self.dead_letters.as_ref().filter(|_| !dead_letters.is_empty()) {
            let payload = D::payload_column(transaction, tables).await.map_err(classify::<D>)?;
            let record = |letter: &&DeadLetter| letter.record(self.tables.topic(), payload, recording.keep);
            let records: Vec<_> = dead_letters.iter().map(record).collect();
            let config = SqlPublisherConfig::for_table(Layout::Log, Some(payload));
            let (over, packet) = (Over::Callers, Packet::default());
            insert_chunks::<D>(transaction, over, tables, &records, &config, Found::NO_DUE, &packet)
                .await
                .map_err(classify::<D>)?;
        }
        Ok(true)
    }

    /// Whether whoever writes next keeps less of the dead letters, because that is what was refused.
    pub(crate) fn keeps_less(&self, recording: &mut Recording, failure: &Failure) -> bool {
        let Some(less) = recording.keep.less().filter(|_| failure.trouble() == Trouble::Message) else {
            return false;
        };
        let (topic, reason) = (self.tables.topic(), failure.text());
        tracing::error!(topic, reason, "a dead letter is refused, less of it is kept");
        recording.keep = less;
        true
    }

    /// A save was committed.
    pub(crate) fn committed(&self, recording: &mut Recording, ledger: &mut LogLedger, save: Save) {
        // Whatever was not answered before has another position before it than there is now, and comes too late.
        recording.unclear &= recording.lease.position == save.position;
        (recording.lease.position, recording.keep) = (save.position, Keep::All);
        if let Some(held) = self.held.upgrade() {
            held.advanced(save.position);
        }
        save.rejected.iter().for_each(|rejected| rejected.log(self.tables.topic()));
        if let Some(tables) = &self.dead_letters
            && save.rejected.iter().any(|rejected| rejected.kept().is_some())
        {
            wake::wake(tables.topic());
        }
        ledger.saved(save);
    }
}

impl Recording {
    /// The reader has sent something that was not answered. It may write that again: it acks nothing that must not come
    /// twice. The next step would, and ends the term instead.
    pub(crate) fn is_unclear(&mut self) {
        self.unclear = true;
    }

    /// A step has sent something that was not answered.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    /// Whether nothing more can be recorded.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}
