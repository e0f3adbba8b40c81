//! Recording outcomes, and the graceful end.

use std::time::{Duration, SystemTime};

use sqlx::Connection as _;
use tokio::time::Instant;
use watermill_core::metadata_keys;

use super::{Reader, Term};
use crate::{
    SqlPublisherConfig,
    dialect::Dialect,
    error::{Failure, Trouble},
    lease::Lease,
    ledger::Dead,
    marshaler::Record,
    position::Position,
    transaction, wake,
};

/// How long a subscription that ends may take to record what it knows and give its lease back, and
/// to ask for a lease that it may have got.
pub(super) const GOODBYE_MAX: Duration = Duration::from_secs(10);

impl<D: Dialect> Reader<D> {
    /// When outcomes are to be recorded: at once if a batch is full or somebody waits.
    pub(super) fn record_at(&self) -> Option<Instant> {
        let state = self.desk.lock();
        let (acks, since, awaited) = state.ledger.unsaved();
        let since = since?;
        if awaited || acks >= self.config.batch_size {
            Some(since)
        } else {
            Some(since + self.config.ack_interval)
        }
    }

    /// Records everything that is settled, with one statement when that is contiguous and alive.
    pub(super) async fn record(&self, term: &mut Term<D>) -> Result<bool, Failure> {
        let save = self.desk.lock().ledger.save();
        let recorded = self.write(&term.lease, save.position, save.progress.as_deref(), &save.dead).await;
        let mut state = self.desk.lock();
        match recorded {
            Ok(true) => {
                term.lease.position = save.position;
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

    async fn write(
        &self,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
        dead: &[Dead],
    ) -> Result<bool, Failure> {
        let mut connection = self.connect().await?;
        if progress.is_none() && dead.is_empty() {
            return D::advance(&mut connection, lease, position, None).await.map_err(Failure::of::<D>);
        }
        let mut transaction = connection.begin().await.map_err(Failure::of::<D>)?;
        // First, because it compares: what follows is written by the owner of the lease.
        if !D::advance(&mut transaction, lease, position, progress).await.map_err(Failure::of::<D>)? {
            return Ok(false);
        }
        if let Some(tables) = &self.dead_letters
            && !dead.is_empty()
        {
            let records: Vec<_> = dead.iter().map(|dead| self.dead_letter(dead)).collect();
            transaction::insert_chunks::<D>(&mut transaction, tables, &records, &self.dead_letter_config())
                .await
                .map_err(Failure::of::<D>)?;
        }
        transaction.commit().await.map_err(Failure::of::<D>)?;
        if let Some(tables) = self.dead_letters.as_ref().filter(|_| !dead.is_empty()) {
            wake::wake(tables.topic());
        }
        Ok(true)
    }

    /// Dead letters lie in a table of the same kind.
    fn dead_letter_config(&self) -> SqlPublisherConfig {
        let config = SqlPublisherConfig::default();
        match self.config.payload_column {
            Some(payload_column) => config.payload_column(payload_column),
            None => config,
        }
    }

    fn dead_letter(&self, dead: &Dead) -> Record {
        let mut message = dead.message.clone();
        let metadata = message.metadata_mut();
        metadata.insert(metadata_keys::REASON_POISONED, &dead.reason);
        metadata.insert(metadata_keys::TOPIC_POISONED, self.tables.topic());
        metadata.insert(metadata_keys::SUBSCRIBER_POISONED, "sql");
        metadata.insert(metadata_keys::OFFSET_POISONED, dead.offset.to_string());
        metadata.insert(metadata_keys::ATTEMPTS_POISONED, dead.attempts.to_string());
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            metadata.insert(metadata_keys::FAILED_AT_POISONED, now.as_millis().to_string());
        }
        Record::of_row(message)
    }

    /// Records what is settled and gives the lease back: the graceful end.
    pub(super) async fn finish(&self, term: &mut Term<D>) -> Result<(), String> {
        self.desk.stop_intake();
        self.desk.lock().ledger.give_back(Instant::now());
        self.origin.revoke(|_| true);
        let goodbye = async {
            let mut failures = 0;
            loop {
                match self.say_goodbye(term).await {
                    Ok(()) => return Ok(()),
                    // A second writer is no reason to forget acks; a database that is away is.
                    Err(failure) if failure.trouble == Trouble::Unavailable && failures < 3 => {
                        tokio::time::sleep(self.config.retry.delay(failures)).await;
                        failures += 1;
                    }
                    Err(failure) => return Err(failure.text()),
                }
            }
        };
        let result = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        wake::wake_standbys(self.tables.topic(), self.config.group_name());
        result.unwrap_or_else(|_| Err(format!("the database did not answer within {GOODBYE_MAX:?}")))
    }

    async fn say_goodbye(&self, term: &mut Term<D>) -> Result<(), Failure> {
        let unsaved = self.desk.lock().ledger.has_unsaved();
        if unsaved && !self.record(term).await? {
            return Err(Failure::because(
                Trouble::Refused,
                "the lease was lost, other readers get the messages",
            ));
        }
        let mut connection = self.connect().await?;
        D::release(&mut connection, &term.lease).await.map_err(Failure::of::<D>)
    }
}
