//! Recording outcomes, and the graceful end.

use std::{pin::Pin, time::Duration};

use futures::future::Fuse;
use tokio::time::Instant;

use super::{Reader, keep::Keeping};
use crate::{
    connection::begin,
    error::{Failure, Trouble, classify},
    log::{
        dialect::LogDialect,
        last_row,
        ledger::Save,
        recorder::{Recorder, Recording},
    },
    wake,
};

/// How long a subscription that ends may take to record what it knows and give its lease back, and
/// to ask for a lease that it may have got.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl<D: LogDialect> Reader<D> {
    /// Records everything that is settled, with one statement when that is contiguous and alive; false when the lease is
    /// lost.
    pub(super) async fn record(&self, keeping: &mut Keeping<D>) -> Result<bool, Failure> {
        match keeping.recorder.hold(self.config.lease / 2).await? {
            Some(mut recording) => self.record_in(keeping, &mut recording).await,
            None => Ok(false),
        }
    }

    async fn record_in(&self, keeping: &mut Keeping<D>, recording: &mut Recording) -> Result<bool, Failure> {
        let save = self.shared.lock().ledger.save();
        let (recorder, mut is_sent) = (keeping.recorder.clone(), false);
        let recorded = loop {
            let by = &*recording;
            let recorded = self.over_a_connection(keeping, async |connection: &mut D::Connection| {
                is_sent = true;
                self.write_over(&recorder, connection, by, &save).await
            });
            match recorded.await {
                Err(failure) if recorder.keeps_less(recording, &failure) => {}
                recorded => break recorded,
            }
        };
        let mut state = self.shared.lock();
        match recorded {
            Ok(true) => {
                keeping.recorder.committed(recording, &mut state.ledger, save);
                Ok(true)
            }
            // Its receipts are completed when the ledger is emptied.
            Ok(false) => {
                state.ledger.keep(save, Instant::now());
                Ok(false)
            }
            Err(failure) => {
                if is_sent && failure.is_passing() && failure.trouble() != Trouble::Conflict {
                    recording.is_unclear();
                }
                state.ledger.keep(save, Instant::now());
                Err(failure)
            }
        }
    }

    async fn write_over(
        &self,
        recorder: &Recorder,
        connection: &mut D::Connection,
        recording: &Recording,
        save: &Save,
    ) -> Result<bool, Failure> {
        let lease = &recording.lease;
        let has_letters = save.rejected.iter().any(|rejected| rejected.kept().is_some());
        if save.progress.is_none() && !has_letters && save.passed.is_empty() {
            return D::advance(connection, lease, save.position, None).await.map_err(classify::<D>);
        }
        let begun = begin::<D>(connection, self.config.lease).await;
        let mut transaction = begun.map_err(classify::<D>)?;
        let written = recorder.write::<D>(&mut transaction, recording, save, None).await?;
        match written {
            true => transaction.commit().await,
            false => transaction.rollback().await,
        }
        .map_err(classify::<D>)?;
        D::end(connection).await.map_err(classify::<D>)?;
        Ok(written)
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
        const LOST: &str = "the lease was lost, other readers get the messages";
        const UNCLEAR: &str = "the commit of a step was not answered, behind which nothing can be recorded: other readers \
            get what was not yet";
        let refused = |why| Failure::because(Trouble::Refused, why);
        // What a step is about to record is not unsaved; it may be so again when the step has failed.
        let mut recording = keeping.recorder.hold_to_release(self.config.lease / 2).await?;
        let unsaved = self.shared.lock().ledger.has_unsaved();
        let is_clean = !unsaved || !recording.is_over();
        if unsaved && is_clean && !self.record_in(keeping, &mut recording).await? {
            return Err(refused(LOST));
        }
        let lease = &recording.lease;
        self.over_a_connection(keeping, async |connection: &mut D::Connection| {
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
            D::release(connection, lease, is_clean).await.map_err(classify::<D>)
        })
        .await?;
        if is_clean { Ok(()) } else { Err(refused(UNCLEAR)) }
    }
}
