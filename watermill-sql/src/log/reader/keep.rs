//! Renewing the lease and recording outcomes, which wait neither for rows nor for handlers.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use super::Reader;
use crate::{
    connection::{IDLE_MAX, Lent, Pooled, within},
    error::{Failure, classify},
    log::{
        dialect::LogDialect,
        lease::Lease,
        recorder::Recorder,
        renewals::{Held, Term},
    },
    position::Position,
};

/// How many rows one look is about, from the oldest on, which bounds what it costs.
const LOOKED_AT_MAX: usize = 1_000;

/// What keeping the lease needs from one time to the next.
pub(super) struct Keeping<D: LogDialect> {
    pub(super) recorder: Arc<Recorder>,
    pub(super) term: Term,
    /// What was in hand when the lease was renewed last: what still is may have been deleted meanwhile.
    in_hand: HashSet<u64>,
    /// For the next statement, and until when: to get one of the pool takes longer than most statements.
    kept: Option<(Pooled<D>, Instant)>,
}

impl<D: LogDialect> Keeping<D> {
    pub(super) fn new(recorder: Arc<Recorder>, term: Term) -> Self {
        Self { recorder, term, in_hand: HashSet::new(), kept: None }
    }

    /// Gives back the connection that was kept for long enough; otherwise, until when it is kept.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Instant> {
        self.kept.take_if(|(_, until)| *until <= now);
        self.kept.as_ref().map(|(_, until)| *until)
    }

    /// Gives it back now.
    pub(super) fn give_back(&mut self) {
        self.kept = None;
    }
}

impl<D: LogDialect> Reader<D> {
    /// Renews the lease and records outcomes, as far as either is due; false when the lease is lost.
    pub(super) async fn keep(&self, mut keeping: Keeping<D>) -> (Keeping<D>, Result<bool, Failure>) {
        let kept = self.renew_and_record(&mut keeping).await;
        (keeping, kept)
    }

    async fn renew_and_record(&self, keeping: &mut Keeping<D>) -> Result<bool, Failure> {
        let now = Instant::now();
        if now >= keeping.term.renew_at() && !self.renew(keeping).await? {
            return Ok(false);
        }
        let record_at = self.shared.record_at(&self.shared.lock());
        match record_at.is_some_and(|at| at <= now) {
            true => self.record(keeping).await,
            false => Ok(true),
        }
    }

    async fn renew(&self, keeping: &mut Keeping<D>) -> Result<bool, Failure> {
        let asked = Instant::now();
        // Before anything is waited for: those who are due at the same time would all set out.
        let mut taken = if D::RENEWS_MANY { self.renewals.take(&keeping.term, asked) } else { Vec::new() };
        let length = self.config.lease;
        let witness = self.reserve.witness(length / 12, length / 10).await;
        // A renewal compares the position, which a step may be about to move.
        let Some(mut recording) = keeping.recorder.hold(length / 2).await? else { return Ok(false) };
        let lease = &mut recording.lease;
        lease.witness = witness;
        if let Some((_, ours)) = taken.first_mut() {
            ours.position = lease.position;
        }
        if taken.len() > 1 && self.renew_many(keeping, lease.witness.clone(), taken, asked).await? {
            return Ok(true);
        }
        let asked = Instant::now();
        let renewed = self.over_a_connection(keeping, async |connection: &mut D::Connection| {
            D::renew(connection, lease, length).await.map_err(classify::<D>)
        });
        if !renewed.await? {
            return Ok(false);
        }
        drop(recording);
        keeping.term.renewed(asked);
        self.look_for_deleted(keeping).await?;
        Ok(true)
    }

    /// Lets go of what is in hand for long and was deleted from the table: by an operator, so that a message that
    /// nobody can handle holds up nothing.
    async fn look_for_deleted(&self, keeping: &mut Keeping<D>) -> Result<(), Failure> {
        let in_hand = self.shared.lock().ledger.in_hand();
        let before = std::mem::replace(&mut keeping.in_hand, in_hand.iter().map(|(row, _)| *row).collect());
        let for_long: Vec<(u64, Position)> =
            in_hand.into_iter().filter(|(row, _)| before.contains(row)).take(LOOKED_AT_MAX).collect();
        if for_long.is_empty() {
            return Ok(());
        }
        let positions: Vec<Position> = for_long.iter().map(|(_, position)| *position).collect();
        let there = self.over_a_connection(keeping, async |connection: &mut D::Connection| {
            D::still_there(connection, &self.tables, &positions).await.map_err(classify::<D>)
        });
        let there: HashSet<Position> = there.await?.into_iter().collect();
        let deleted: Vec<(u64, Position)> =
            for_long.into_iter().filter(|(_, position)| !there.contains(position)).collect();
        if deleted.is_empty() {
            return Ok(());
        }
        for (_, Position { offset, .. }) in &deleted {
            let (topic, group) = (self.tables.topic(), self.config.group_name());
            tracing::warn!(
                topic,
                group,
                offset,
                "a message in hand was deleted from the table, going on without it"
            );
        }
        let rows: Vec<u64> = deleted.iter().map(|(row, _)| *row).collect();
        self.origin.revoke(|| self.shared.lock().ledger.deleted(&rows, Instant::now()));
        self.shared.wake_stream();
        Ok(())
    }

    /// Renews the leases of others with ours, which is the first; whether that was among those that were renewed.
    async fn renew_many(
        &self,
        keeping: &mut Keeping<D>,
        witness: Option<Arc<str>>,
        taken: Vec<(Arc<Held>, Lease)>,
        asked: Instant,
    ) -> Result<bool, Failure> {
        let (held, leases): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let renewed = self.over_a_connection(keeping, async |connection: &mut D::Connection| {
            let renewed = D::renew_many(connection, &leases, witness.as_deref(), self.config.lease).await;
            renewed.map_err(classify::<D>)
        });
        let renewed = renewed.await?;
        for (held, _) in held.iter().zip(&renewed).filter(|(_, is_renewed)| **is_renewed) {
            held.renewed(asked);
        }
        Ok(renewed.first() == Some(&true))
    }

    /// Does something over a connection that is there even if handlers have all of the pool, for so long at most that
    /// it can be tried again before the lease is over.
    pub(super) async fn over_a_connection<T>(
        &self,
        Keeping { kept, .. }: &mut Keeping<D>,
        work: impl AsyncFnOnce(&mut D::Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        within(self.config.lease / 2, async {
            let mut lent = match kept.take() {
                Some((pooled, _)) => pooled.into(),
                None => self.reserve.lend(self.config.lease / 10).await?,
            };
            let done = work(lent.get()?).await?;
            lent.settled();
            let now = Instant::now();
            if let Lent::Pooled(pooled, _) = lent
                && pooled.may_be_kept(&self.pool, now)
            {
                *kept = Some((pooled, now + IDLE_MAX));
            }
            Ok(done)
        })
        .await
    }
}
