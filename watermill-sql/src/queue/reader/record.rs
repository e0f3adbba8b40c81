//! Recording outcomes, and keeping rows out of sight.

use std::collections::HashSet;

use tokio::time::Instant;
use watermill_core::backend::Ledger as _;

use super::QueueReader;
use crate::{
    Layout, SqlPublisherConfig,
    connection::{Lent, begin, within},
    dead_letter::Keep,
    error::{Failure, Trouble, classify},
    marshaler::Record,
    publisher::{Over, Packet, insert_chunks},
    queue::{
        claims::{Done, PassedOn, Released},
        dialect::{Claim, Release},
        ordered::OrderedDialect,
    },
    wake,
};

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;

impl<D: OrderedDialect> QueueReader<D> {
    /// Renews what is in hand, if that is due, and records outcomes unless that is to wait. Returns when to renew again.
    pub(super) async fn write(&self, renew: bool, record: bool) -> Result<Option<Instant>, Failure> {
        let renew_at = if renew { Some(self.renew().await?) } else { None };
        if record {
            self.record().await?;
        }
        Ok(renew_at)
    }

    async fn renew(&self) -> Result<Instant, Failure> {
        let asked = Instant::now();
        let renew_at = asked + self.config.visibility_timeout / 3;
        let held = self.shared.lock().ledger.held();
        if held.is_empty() {
            return Ok(renew_at);
        }
        let ours = self.over_a_connection(async |connection: &mut D::Connection| {
            D::extend_claims(connection, &self.queue, &held).await.map_err(classify::<D>)
        });
        let ours = ours.await?.into_iter().collect();
        let mut lost = HashSet::new();
        self.origin.revoke(|| {
            let mut state = self.shared.lock();
            state.own_until(asked + self.config.visibility_timeout);
            let out = state.ledger.tokens();
            lost = state.ledger.keep_only(&held, &ours, Instant::now());
            out.into_iter().filter(|token| lost.contains(&token.position)).collect::<Vec<_>>()
        });
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
            let (done, passed_on) = self.shared.lock().ledger.take_done(ROWS_MAX);
            let nothing_done = done.is_empty();
            if !nothing_done {
                match self.finish_rows(&done, &passed_on).await {
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
                if !passed_on.ended.is_empty() {
                    // The next ones of those keys are due for anybody.
                    wake::wake(self.queue.tables.topic());
                }
            }
            let (released, passed_on) = self.shared.lock().ledger.take_released(ROWS_MAX);
            if !released.is_empty() {
                match self.unclaim_rows(&released, &passed_on).await {
                    Ok(ours) => released.into_iter().for_each(|row| {
                        let recorded = ours.contains(&row.release.claim.offset);
                        row.complete(recorded);
                    }),
                    Err(failure) => {
                        self.shared.lock().ledger.keep_released(released, Instant::now());
                        return Err(failure);
                    }
                }
                // They may be due for anybody.
                wake::wake(self.queue.tables.topic());
            } else if nothing_done {
                return Ok(());
            }
        }
    }

    /// Lets rows go. Returns the offsets of those that were ours.
    async fn unclaim_rows(
        &self,
        released: &[Released],
        passed_on: &PassedOn,
    ) -> Result<HashSet<i64>, Failure> {
        let releases: Vec<Release> = released.iter().map(|released| released.release).collect();
        let ours = self.over_a_connection(async |connection: &mut D::Connection| {
            if passed_on.heirs.is_empty() {
                return D::unclaim_rows(connection, &self.queue, &releases).await.map_err(classify::<D>);
            }
            let begun = begin::<D>(connection, self.config.visibility_timeout).await;
            let mut transaction = begun.map_err(classify::<D>)?;
            let ours = D::unclaim_rows(&mut transaction, &self.queue, &releases).await;
            let ours = ours.map_err(classify::<D>)?;
            D::pass_holds(&mut transaction, &self.queue, &passed_on.heirs).await.map_err(classify::<D>)?;
            transaction.commit().await.map_err(classify::<D>)?;
            D::end(connection).await.map_err(classify::<D>)?;
            Ok(ours)
        });
        Ok(ours.await?.into_iter().collect())
    }

    /// Deletes or marks rows, and moves those to the dead-letter topic that belong there. Returns the
    /// offsets of those that were ours.
    async fn finish_rows(&self, done: &[Done], passed_on: &PassedOn) -> Result<HashSet<i64>, Failure> {
        let mut keep = Keep::All;
        loop {
            let finished = self.over_a_connection(async |connection: &mut D::Connection| {
                self.finish_rows_over(connection, done, passed_on, keep).await
            });
            match (finished.await, keep.less()) {
                (Err(failure), Some(less)) if failure.trouble() == Trouble::Message => {
                    let (topic, reason) = (self.queue.tables.topic(), failure.text());
                    tracing::error!(topic, reason, "a dead letter is refused, less of it is kept");
                    keep = less;
                }
                (finished, _) => return finished,
            }
        }
    }

    /// Does something over a connection that is there even if handlers have all of the pool, for so long at most that
    /// it can be tried again before what is in hand is over.
    async fn over_a_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut D::Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        within(self.config.visibility_timeout / 2, async {
            let mut lent = match self.take_kept() {
                Some(pooled) => pooled.into(),
                None => self.reserve.lend(self.config.visibility_timeout / 10).await?,
            };
            let done = work(lent.get()?).await?;
            lent.settled();
            if let Lent::Pooled(pooled, _) = lent {
                self.keep(pooled);
            }
            Ok(done)
        })
        .await
    }

    async fn finish_rows_over(
        &self,
        connection: &mut D::Connection,
        done: &[Done],
        passed_on: &PassedOn,
        keep: Keep,
    ) -> Result<HashSet<i64>, Failure> {
        let claims: Vec<Claim> = done.iter().map(|row| row.claim).collect();
        let dead_letters = self.dead_letters.as_ref().filter(|_| done.iter().any(|row| row.kept().is_some()));
        if dead_letters.is_none() && passed_on.heirs.is_empty() {
            let ours = self.finish_claims(connection, &claims, passed_on).await.map_err(classify::<D>)?;
            return Ok(ours.into_iter().collect());
        }
        let begun = begin::<D>(connection, self.config.visibility_timeout).await;
        let mut transaction = begun.map_err(classify::<D>)?;
        // First, because it compares: what follows is written by the owner of the rows.
        let ours = self.finish_claims(&mut transaction, &claims, passed_on).await.map_err(classify::<D>)?;
        let ours: HashSet<i64> = ours.into_iter().collect();
        if !passed_on.heirs.is_empty() {
            D::pass_holds(&mut transaction, &self.queue, &passed_on.heirs).await.map_err(classify::<D>)?;
        }
        if let Some((tables, found)) = dead_letters {
            let payload = D::payload_column(&mut transaction, tables).await.map_err(classify::<D>)?;
            let records: Vec<Record> = done
                .iter()
                .filter(|row| ours.contains(&row.claim.offset))
                .filter_map(Done::kept)
                .map(|letter| letter.record(self.queue.tables.topic(), payload, keep))
                .collect();
            if !records.is_empty() {
                let config = SqlPublisherConfig::for_table(Layout::Queue, Some(payload));
                insert_chunks::<D>(
                    &mut transaction,
                    Over::Callers,
                    tables,
                    &records,
                    &config,
                    *found,
                    &Packet::default(),
                )
                .await
                .map_err(classify::<D>)?;
            }
        }
        transaction.commit().await.map_err(classify::<D>)?;
        D::end(connection).await.map_err(classify::<D>)?;
        if let Some((tables, _)) = dead_letters {
            wake::wake(tables.topic());
        }
        Ok(ours)
    }

    async fn finish_claims(
        &self,
        connection: &mut D::Connection,
        claims: &[Claim],
        passed_on: &PassedOn,
    ) -> sqlx::Result<Vec<i64>> {
        match passed_on.ended.is_empty() {
            true => D::finish_rows(connection, &self.queue, claims).await,
            false => D::finish_in_order(connection, &self.queue, claims, &passed_on.ended).await,
        }
    }
}
