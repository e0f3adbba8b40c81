//! Recording outcomes, and the graceful end.

use std::{pin::Pin, time::Duration};

use futures::future::Fuse;
use tokio::time::Instant;

use super::{Reader, keep::Keeping};
use crate::{
    Layout, SqlPublisherConfig,
    connection::begin,
    dead_letter::{DeadLetter, Keep},
    error::{Failure, Trouble, classify},
    log::{dialect::LogDialect, last_row, lease::Lease, ledger::Save},
    publisher::{Over, Packet, insert_chunks},
    schema::Found,
    settle::Rejected,
    source::Passed,
    wake,
};

/// How long a subscription that ends may take to record what it knows and give its lease back, and
/// to ask for a lease that it may have got.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows of a source that one statement deletes or marks.
const PASSED_AT_ONCE: usize = 1_000;

impl<D: LogDialect> Reader<D> {
    /// Records everything that is settled, with one statement when that is contiguous and alive.
    pub(super) async fn record(&self, keeping: &mut Keeping<D>) -> Result<bool, Failure> {
        let save = self.shared.lock().ledger.save();
        let mut keep = Keep::All;
        let recorded = loop {
            let recorded =
                self.over_a_connection(keeping, async |connection: &mut D::Connection, lease: &mut Lease| {
                    self.write_over(connection, lease, &save, keep).await
                });
            match (recorded.await, keep.less()) {
                (Err(failure), Some(less)) if failure.trouble() == Trouble::Message => {
                    let (topic, reason) = (self.tables.topic(), failure.text());
                    tracing::error!(topic, reason, "a dead letter is refused, less of it is kept");
                    keep = less;
                }
                (recorded, _) => break recorded,
            }
        };
        if matches!(recorded, Ok(true)) {
            save.rejected.iter().for_each(|rejected| rejected.log(self.tables.topic()));
        }
        let mut state = self.shared.lock();
        match recorded {
            Ok(true) => {
                keeping.lease.position = save.position;
                keeping.term.advanced(save.position);
                state.ledger.saved(save);
                Ok(true)
            }
            // Its receipts are completed when the ledger is emptied.
            Ok(false) => {
                state.ledger.keep(save, Instant::now());
                Ok(false)
            }
            Err(failure) => {
                state.ledger.keep(save, Instant::now());
                Err(failure)
            }
        }
    }

    async fn write_over(
        &self,
        connection: &mut D::Connection,
        lease: &Lease,
        Save { position, progress, rejected, passed, .. }: &Save,
        keep: Keep,
    ) -> Result<bool, Failure> {
        let (position, progress) = (*position, progress.as_deref());
        let dead_letters: Vec<_> = rejected.iter().filter_map(Rejected::kept).collect();
        if progress.is_none() && dead_letters.is_empty() && passed.is_empty() {
            return D::advance(connection, lease, position, None).await.map_err(classify::<D>);
        }
        let begun = begin::<D>(connection, self.config.lease).await;
        let mut transaction = begun.map_err(classify::<D>)?;
        // First, because it compares: what follows is written by the owner of the lease.
        if !D::advance(&mut transaction, lease, position, progress).await.map_err(classify::<D>)? {
            transaction.rollback().await.map_err(classify::<D>)?;
            D::end(connection).await.map_err(classify::<D>)?;
            return Ok(false);
        }
        if let Some(mapping) = self.tables.mapping() {
            for passed in passed.chunks(PASSED_AT_ONCE) {
                D::pass(&mut transaction, mapping, Passed::Offsets(passed)).await.map_err(classify::<D>)?;
            }
        }
        if let Some(tables) = &self.dead_letters
            && !dead_letters.is_empty()
        {
            let payload = D::payload_column(&mut transaction, tables).await.map_err(classify::<D>)?;
            let record = |letter: &&DeadLetter| letter.record(self.tables.topic(), payload, keep);
            let records: Vec<_> = dead_letters.iter().map(record).collect();
            let config = SqlPublisherConfig::for_table(Layout::Log, Some(payload));
            insert_chunks::<D>(
                &mut transaction,
                Over::Callers,
                tables,
                &records,
                &config,
                Found::NO_DUE,
                &Packet::default(),
            )
            .await
            .map_err(classify::<D>)?;
        }
        transaction.commit().await.map_err(classify::<D>)?;
        D::end(connection).await.map_err(classify::<D>)?;
        if let Some(tables) = self.dead_letters.as_ref().filter(|_| !dead_letters.is_empty()) {
            wake::wake(tables.topic());
        }
        Ok(true)
    }

    /// Records what is settled and gives the lease back: the graceful end.
    pub(super) async fn finish<K>(
        &self,
        cursor: Option<D::Cursor>,
        at_rest: Option<Keeping<D>>,
        under_way: Pin<&mut Fuse<K>>,
    ) -> Result<(), String>
    where
        K: Future<Output = (Keeping<D>, Result<bool, Failure>)>,
    {
        self.shared.give_back(&self.origin);
        let recorded = async {
            let mut keeping = match at_rest {
                Some(keeping) => keeping,
                None => under_way.await.0,
            };
            let mut failures = 0;
            loop {
                match self.record_and_release(cursor.as_ref(), &mut keeping).await {
                    Ok(()) => return Ok(()),
                    // A second writer is no reason to forget acks; a database that is away is.
                    Err(failure) if failure.is_passing() && failures < 3 => {
                        tokio::time::sleep(self.config.retry.delay(failures)).await;
                        failures += 1;
                    }
                    Err(failure) => return Err(failure.text()),
                }
            }
        };
        let result = tokio::time::timeout(CLOSE_TIMEOUT, recorded).await;
        wake::wake_standbys(self.tables.topic(), self.config.group_name());
        result.unwrap_or_else(|_| Err(format!("the database did not answer within {CLOSE_TIMEOUT:?}")))
    }

    pub(super) async fn record_and_release(
        &self,
        cursor: Option<&D::Cursor>,
        keeping: &mut Keeping<D>,
    ) -> Result<(), Failure> {
        let unsaved = self.shared.lock().ledger.has_unsaved();
        if unsaved && !self.record(keeping).await? {
            return Err(Failure::because(
                Trouble::Refused,
                "the lease was lost, other readers get the messages",
            ));
        }
        self.over_a_connection(keeping, async |connection: &mut D::Connection, lease: &mut Lease| {
            if let Some(cursor) = cursor
                && let Err(failure) =
                    last_row::check_and_note::<D>(connection, &self.config, cursor, lease).await
            {
                // Whoever comes next finds out for itself.
                tracing::debug!(
                    topic = self.tables.topic(),
                    reason = failure.text(),
                    "the last row is not noted"
                );
            }
            D::release(connection, lease).await.map_err(classify::<D>)
        })
        .await
    }
}
