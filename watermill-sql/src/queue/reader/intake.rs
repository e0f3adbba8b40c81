//! Claiming rows.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::error::{BoxError, SubscribeError, SubscribeErrorKind};

use super::QueueReader;
use crate::{
    connection::{Pooled, within},
    dead_letter::DeadLetter,
    error::{Failure, classify},
    marshaler::{self, Unreadable},
    queue::dialect::{Claim, Claimed, QueueDialect, Release, Turn},
};

/// So many claims begin once with those that had to wait.
const CLAIMS_A_TURN: u32 = 8;

/// The answer to one claim.
pub(super) struct Intake {
    pub(super) asked: Instant,
    pub(super) limit: usize,
    pub(super) rows: Vec<Claimed>,
    /// Claims of rows that are no longer there.
    pub(super) gone: Vec<Claim>,
    /// In how long the next message is due, when there was none.
    pub(super) due: Option<Duration>,
}

impl<D: QueueDialect> QueueReader<D> {
    pub(super) async fn claim(&self, limit: usize) -> Result<Intake, Failure> {
        within(self.config.statement_max(), async {
            let mut pooled = match self.take_kept() {
                Some(pooled) => pooled,
                None => Pooled::clean(&self.pool).await?,
            };
            let asked = Instant::now();
            let mut rows = self.claim_over(pooled.get(), limit).await.map_err(classify::<D>)?;
            let gone = self.fill(pooled.get(), &mut rows).await.map_err(classify::<D>)?;
            let due = match rows.is_empty() && gone.is_empty() {
                true => D::next_due(pooled.get(), &self.queue).await.map_err(classify::<D>)?,
                false => None,
            };
            self.keep(pooled);
            Ok(Intake { asked, limit, rows, gone, due })
        })
        .await
    }

    async fn claim_over(&self, connection: &mut D::Connection, limit: usize) -> sqlx::Result<Vec<Claimed>> {
        self.claim_new(connection, limit).await?;
        let mut rows = match self.claims.fetch_add(1, Ordering::Relaxed) % CLAIMS_A_TURN {
            0 => D::claim_rows(connection, &self.queue, Turn::Waited, limit).await?,
            _ => Vec::new(),
        };
        if rows.len() < limit {
            rows.extend(D::claim_rows(connection, &self.queue, Turn::All, limit - rows.len()).await?);
        }
        let now = Instant::now();
        let looks = rows.is_empty() && {
            let mut end_claims_at = self.end_claims_at.lock().unwrap_or_else(PoisonError::into_inner);
            let looks = now >= *end_claims_at;
            if looks {
                *end_claims_at = now + self.config.visibility_timeout;
            }
            looks
        };
        if looks && D::end_claims(connection, &self.queue).await? {
            rows = D::claim_rows(connection, &self.queue, Turn::All, limit).await?;
        }
        if looks {
            self.forget_claims(connection).await?;
        }
        Ok(rows)
    }

    /// Takes in what was claimed.
    pub(super) fn take_in(&self, intake: Intake, now: Instant) {
        let mut unreadable = Vec::new();
        let mut state = self.shared.lock();
        for claim in intake.gone {
            state.ledger.forget(claim, now);
        }
        for Claimed { claim, row, now_ms, go_due_ms } in intake.rows {
            let message = match row.message {
                Ok(stored) => stored.message(),
                Err(Unreadable { error, remains: message }) => {
                    let reason = error.to_string();
                    unreadable.push((claim, error));
                    if self.dead_letters.is_some() {
                        let dead =
                            DeadLetter { offset: claim.offset, message, reason, attempts: claim.attempt };
                        state.ledger.push_dead(claim, dead, now);
                    } else {
                        let delay = self.config.retry.delay(claim.attempt.saturating_sub(1));
                        state.ledger.release(Release { claim, delay, tried: true }, now);
                    }
                    continue;
                }
            };
            // A writer that does not know our column for due times says it in the metadata, or in Go's, which
            // has whole seconds. What cannot be read there delays nothing.
            let due_ms = marshaler::due_ms(&message).ok().flatten().or(go_due_ms);
            match due_ms.filter(|due_ms| *due_ms > now_ms) {
                Some(due_ms) => {
                    let delay = Duration::from_millis(due_ms.abs_diff(now_ms));
                    state.ledger.release(Release { claim, delay, tried: false }, now);
                }
                None => state.ledger.push(claim, message, row.published_at, intake.asked),
            }
        }
        drop(state);
        for (claim, error) in unreadable {
            self.report_unreadable(claim, error);
        }
    }

    fn report_unreadable(&self, Claim { offset, .. }: Claim, error: BoxError) {
        let fate = match self.dead_letters {
            Some(_) => "it is moved to the dead-letter topic",
            None => "it comes again later, others go on",
        };
        let detail = format!("the row at offset {offset} cannot be read, {fate}");
        let topic = self.queue.tables.topic();
        tracing::error!(topic, %error, "{detail}");
        self.shared.report(
            SubscribeError::new(SubscribeErrorKind::Undecodable, topic).because(detail).with_source(error),
        );
    }
}
