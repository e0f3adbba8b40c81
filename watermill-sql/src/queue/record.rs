//! Recording outcomes, and keeping rows out of sight.

use std::collections::HashSet;

use sqlx::Connection as _;
use tokio::time::Instant;
use watermill_core::backend::Ledger as _;

use super::{
    claims::{Done, Released},
    dialect::{Claim, QueueDialect, Release},
    reader::QueueReader,
};
use crate::{
    Layout, SqlPublisherConfig,
    error::{Failure, classify},
    marshaler::Record,
    publisher::insert_chunks,
    wake,
};

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;

impl<D: QueueDialect> QueueReader<D> {
    /// Renews what is in hand, if that is due, and records outcomes. Returns when to renew again.
    pub(super) async fn write(&self, renew: bool) -> Result<Option<Instant>, Failure> {
        let renew_at = if renew { Some(self.renew().await?) } else { None };
        self.record().await?;
        Ok(renew_at)
    }

    async fn renew(&self) -> Result<Instant, Failure> {
        let asked = Instant::now();
        let renew_at = asked + self.config.visibility_timeout / 3;
        let held = self.shared.lock().ledger.held();
        if held.is_empty() {
            return Ok(renew_at);
        }
        let mut pooled = self.connect().await?;
        let ours = D::extend_claims(&mut pooled.connection, &self.queue, &held).await;
        let ours = ours.map_err(classify::<D>)?;
        self.keep(pooled);
        let lost = {
            let ours = ours.into_iter().collect();
            let mut lost = HashSet::new();
            self.origin.revoke(|| {
                let mut state = self.shared.lock();
                state.own_until(asked + self.config.visibility_timeout);
                let out = state.ledger.tokens();
                lost = state.ledger.keep_only(&held, &ours);
                out.into_iter().filter(|token| lost.contains(&token.position)).collect::<Vec<_>>()
            });
            lost
        };
        if !lost.is_empty() {
            let (topic, count) = (self.queue.tables.topic(), lost.len());
            tracing::warn!(
                topic,
                count,
                "messages were out of our sight too long and are with other workers"
            );
        }
        // Had the time run out meanwhile, the stream would be waiting.
        self.shared.wake_stream();
        Ok(renew_at)
    }

    /// Records everything that is settled.
    pub(super) async fn record(&self) -> Result<(), Failure> {
        loop {
            let done = self.shared.lock().ledger.take_done(ROWS_MAX);
            let nothing_done = done.is_empty();
            if !nothing_done {
                match self.finish_rows(&done).await {
                    Ok(ours) => {
                        done.into_iter().for_each(|row| {
                            let recorded = ours.contains(&row.claim.offset);
                            row.complete(recorded, self.queue.tables.topic());
                        });
                    }
                    Err(failure) => {
                        self.shared.lock().ledger.keep_done(done, Instant::now());
                        return Err(failure);
                    }
                }
            }
            let released = self.shared.lock().ledger.take_released(ROWS_MAX);
            if !released.is_empty() {
                if let Err(failure) = self.unclaim_rows(&released).await {
                    self.shared.lock().ledger.keep_released(released, Instant::now());
                    return Err(failure);
                }
                released.into_iter().for_each(Released::complete);
                // They may be due for anybody.
                wake::wake(self.queue.tables.topic());
            } else if nothing_done {
                return Ok(());
            }
        }
    }

    async fn unclaim_rows(&self, released: &[Released]) -> Result<(), Failure> {
        let releases: Vec<Release> = released.iter().map(|released| released.release).collect();
        let mut pooled = self.connect().await?;
        let unclaimed = D::unclaim_rows(&mut pooled.connection, &self.queue, &releases).await;
        unclaimed.map_err(classify::<D>)?;
        self.keep(pooled);
        Ok(())
    }

    /// Deletes or marks rows, and moves those to the dead-letter topic that belong there. Returns the
    /// offsets of those that were ours.
    async fn finish_rows(&self, done: &[Done]) -> Result<HashSet<i64>, Failure> {
        let mut pooled = self.connect().await?;
        let ours = self.finish_rows_over(&mut pooled.connection, done).await?;
        self.keep(pooled);
        Ok(ours)
    }

    async fn finish_rows_over(
        &self,
        connection: &mut D::Connection,
        done: &[Done],
    ) -> Result<HashSet<i64>, Failure> {
        let claims: Vec<Claim> = done.iter().map(|row| row.claim).collect();
        let dead_letters = self.dead_letters.as_ref().filter(|_| done.iter().any(|row| row.kept().is_some()));
        let Some((tables, found)) = dead_letters else {
            let ours = D::finish_rows(connection, &self.queue, &claims).await.map_err(classify::<D>)?;
            return Ok(ours.into_iter().collect());
        };
        let mut transaction = connection.begin().await.map_err(classify::<D>)?;
        // First, because it compares: what follows is written by the owner of the rows.
        let ours = D::finish_rows(&mut transaction, &self.queue, &claims).await.map_err(classify::<D>)?;
        let ours: HashSet<i64> = ours.into_iter().collect();
        let payload = D::payload_column(&mut transaction, tables).await.map_err(classify::<D>)?;
        let records: Vec<Record> = done
            .iter()
            .filter(|row| ours.contains(&row.claim.offset))
            .filter_map(Done::kept)
            .map(|letter| letter.record(self.queue.tables.topic(), payload))
            .collect();
        if !records.is_empty() {
            let config = SqlPublisherConfig::for_table(Layout::Queue, Some(payload));
            insert_chunks::<D>(&mut transaction, tables, &records, &config, *found)
                .await
                .map_err(classify::<D>)?;
        }
        transaction.commit().await.map_err(classify::<D>)?;
        wake::wake(tables.topic());
        Ok(ours)
    }
}
