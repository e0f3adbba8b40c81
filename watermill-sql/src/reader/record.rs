//! Recording outcomes, and the graceful end.

use std::time::Duration;

use sqlx::Connection as _;
use tokio::time::Instant;

use super::{Reader, Term};
use crate::{
    Layout, SqlPublisherConfig,
    dialect::Dialect,
    error::{Failure, Trouble},
    lease::Lease,
    ledger::Save,
    schema::Found,
    settle::Hand as _,
    transaction, wake,
};

/// How long a subscription that ends may take to record what it knows and give its lease back, and
/// to ask for a lease that it may have got.
pub(super) const GOODBYE_MAX: Duration = Duration::from_secs(10);

impl<D: Dialect> Reader<D> {
    /// Records everything that is settled, with one statement when that is contiguous and alive.
    pub(super) async fn record(&self, term: &mut Term<D>) -> Result<bool, Failure> {
        let save = self.desk.lock().hand.save();
        let recorded = self.write(term, &save).await;
        let mut state = self.desk.lock();
        match recorded {
            Ok(true) => {
                term.lease.position = save.position;
                state.hand.saved(save);
                Ok(true)
            }
            // Its receipts are completed when the ledger is emptied.
            Ok(false) => {
                state.hand.keep(save, Instant::now());
                Ok(false)
            }
            Err(failure) => {
                state.hand.keep(save, Instant::now());
                Err(failure)
            }
        }
    }

    async fn write(&self, term: &mut Term<D>, save: &Save) -> Result<bool, Failure> {
        let mut connection = self.connect_for(term).await?;
        let advanced = self.write_over(connection.get(), &term.lease, save).await?;
        self.keep(term, connection);
        Ok(advanced)
    }

    async fn write_over(
        &self,
        connection: &mut D::Connection,
        lease: &Lease,
        Save { position, progress, dead, .. }: &Save,
    ) -> Result<bool, Failure> {
        let (position, progress) = (*position, progress.as_deref());
        if progress.is_none() && dead.is_empty() {
            return D::advance(connection, lease, position, None).await.map_err(Failure::of::<D>);
        }
        let mut transaction = connection.begin().await.map_err(Failure::of::<D>)?;
        // First, because it compares: what follows is written by the owner of the lease.
        if !D::advance(&mut transaction, lease, position, progress).await.map_err(Failure::of::<D>)? {
            return Ok(false);
        }
        if let Some(tables) = &self.dead_letters
            && !dead.is_empty()
        {
            let payload = D::payload_column(&mut transaction, tables).await.map_err(Failure::of::<D>)?;
            let records: Vec<_> = dead.iter().map(|dead| dead.record(self.tables.topic(), payload)).collect();
            let config = SqlPublisherConfig::for_table(Layout::Log, Some(payload));
            transaction::insert_chunks::<D>(&mut transaction, tables, &records, &config, Found::NO_DUE)
                .await
                .map_err(Failure::of::<D>)?;
        }
        transaction.commit().await.map_err(Failure::of::<D>)?;
        if let Some(tables) = self.dead_letters.as_ref().filter(|_| !dead.is_empty()) {
            wake::wake(tables.topic());
        }
        Ok(true)
    }

    /// Records what is settled and gives the lease back: the graceful end.
    pub(super) async fn finish(&self, term: &mut Term<D>) -> Result<(), String> {
        self.desk.stop_intake();
        self.origin.revoke(|| {
            let mut state = self.desk.lock();
            let out = state.hand.tokens();
            state.hand.give_back(Instant::now());
            out
        });
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
        let unsaved = self.desk.lock().hand.has_unsaved();
        if unsaved && !self.record(term).await? {
            return Err(Failure::because(
                Trouble::Refused,
                "the lease was lost, other readers get the messages",
            ));
        }
        let mut connection = self.connect_for(term).await?;
        D::release(connection.get(), &term.lease).await.map_err(Failure::of::<D>)
    }
}
