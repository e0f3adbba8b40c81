//! Claiming rows.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::error::{BoxError, SubscribeError, SubscribeErrorKind};

use super::{QueueReader, turns::Turns};
use crate::{
    connection::{Pooled, within},
    dead_letter::DeadLetter,
    error::{Failure, classify},
    marshaler::Unreadable,
    queue::{
        dialect::{Claim, Claimed, Release, Turn},
        ordered::{Bounds, LOOKED_AT, OrderedDialect, RUN_MAX},
    },
    stored::Limit,
};

/// How often one claim of a queue in order by key looks.
const LOOKS_MAX: usize = 4;

/// The answer to one claim.
pub(super) struct Intake {
    pub(super) asked: Instant,
    pub(super) rows: Vec<Claimed>,
    /// Claims of rows that are no longer there.
    pub(super) gone: Vec<Claim>,
    /// Whether there may be more.
    pub(super) full: bool,
    /// In how long the next message is due, when there was none.
    pub(super) due: Option<Duration>,
}

impl<D: OrderedDialect> QueueReader<D> {
    pub(super) async fn claim(&self, limit: usize, holders: Vec<i64>) -> Result<Intake, Failure> {
        within(self.config.statement_max(), async {
            let mut pooled = match self.take_kept() {
                Some(pooled) => pooled,
                None => Pooled::clean(&self.pool).await?,
            };
            let asked = Instant::now();
            let limit = self.fitting(limit);
            let (mut rows, mut full) =
                self.claim_over(pooled.get(), limit, &holders).await.map_err(classify::<D>)?;
            if self.queue.ordered {
                // Those of a key follow one another.
                rows.sort_unstable_by_key(|row| row.claim.offset);
            }
            let (gone, some_let_go) = self.fill(pooled.get(), &mut rows).await.map_err(classify::<D>)?;
            full |= some_let_go;
            let due = match rows.is_empty() && gone.is_empty() {
                true => D::next_due(pooled.get(), &self.queue).await.map_err(classify::<D>)?,
                false => None,
            };
            self.keep(pooled);
            Ok(Intake { asked, rows, gone, full, due })
        })
        .await
    }

    /// Claims up to `limit` rows. Returns, too, whether there may be more. What is claimed when something fails is not
    /// forgotten.
    async fn claim_over(
        &self,
        connection: &mut D::Connection,
        limit: usize,
        holders: &[i64],
    ) -> sqlx::Result<(Vec<Claimed>, bool)> {
        self.claim_new(connection, limit).await?;
        let mut rows = Vec::new();
        let claimed = match self.queue.ordered {
            true => self.claim_in_order(connection, limit, holders, &mut rows).await,
            false => self.claim_any(connection, limit, &mut rows).await,
        };
        match claimed {
            Err(error) if rows.is_empty() => Err(error),
            claimed => Ok((rows, claimed.unwrap_or(true))),
        }
    }

    async fn claim_any(
        &self,
        connection: &mut D::Connection,
        limit: usize,
        rows: &mut Vec<Claimed>,
    ) -> sqlx::Result<bool> {
        let turn = self.turns().next(Instant::now());
        if turn.waited {
            let asked = Instant::now();
            *rows = D::claim_rows(connection, &self.queue, Turn::Waited, self.room(rows, limit)).await?;
            self.turns().waited(!rows.is_empty(), asked.elapsed(), Instant::now());
        }
        let front = turn.front.filter(|_| D::LEAVES_DEAD_ROWS).map(Turn::From);
        for turn in front.into_iter().chain([Turn::All]) {
            let room = self.room(rows, limit);
            if room.rows > 0 && room.bytes > 0 {
                rows.extend(D::claim_rows(connection, &self.queue, turn, room).await?);
            }
        }
        if rows.is_empty() && self.may_mend() {
            if D::end_claims(connection, &self.queue).await? {
                *rows = D::claim_rows(connection, &self.queue, Turn::All, self.room(rows, limit)).await?;
            }
            self.forget_claims(connection).await?;
        }
        let is_full = rows.len() == limit;
        self.turns().came(rows, is_full);
        Ok(is_full)
    }

    /// The first look is at as many rows as are wanted. If most of those are not the heads of their keys, they are set
    /// aside, and the next look is at more.
    async fn claim_in_order(
        &self,
        connection: &mut D::Connection,
        limit: usize,
        mut holders: &[i64],
        rows: &mut Vec<Claimed>,
    ) -> sqlx::Result<bool> {
        let takes_runs = self.shared.lock().ledger.takes_runs(self.config.batch_size);
        let run = if takes_runs { RUN_MAX } else { 1 };
        let turn = self.turns().next(Instant::now());
        if turn.waited {
            let asked = Instant::now();
            D::end_holds(connection, &self.queue).await?;
            let bounds = Bounds { limit, bytes: self.config.batch_bytes, run, looks: limit };
            *rows = D::claim_in_order(connection, &self.queue, Turn::Waited, bounds, &[]).await?.rows;
            self.turns().waited(!rows.is_empty(), asked.elapsed(), Instant::now());
        }
        if let Some(front) = turn.front.filter(|_| D::LEAVES_DEAD_ROWS && holders.is_empty())
            && rows.is_empty()
        {
            let bounds = Bounds { limit, bytes: self.config.batch_bytes, run: 1, looks: limit };
            let turn = Turn::From(front);
            *rows = D::claim_in_order(connection, &self.queue, turn, bounds, holders).await?.rows;
            let is_full = rows.len() == limit;
            self.turns().came(rows, is_full);
            if is_full {
                return Ok(true);
            }
        }
        let (mut looks, mut ended_holds) = (limit, false);
        for _ in 0..LOOKS_MAX {
            let Limit { rows: wanted, bytes } = self.room(rows, limit);
            if wanted == 0 || bytes == 0 {
                return Ok(true);
            }
            let bounds = Bounds { limit: wanted, bytes, run, looks };
            let look = D::claim_in_order(connection, &self.queue, Turn::All, bounds, holders).await?;
            holders = &[];
            let found = look.rows.len();
            self.turns().came(&look.rows, found == wanted);
            rows.extend(look.rows);
            if self.room(rows, limit).bytes == 0 {
                return Ok(true);
            }
            if rows.is_empty() && look.looked_at > 0 && !ended_holds {
                ended_holds = true;
                D::end_holds(connection, &self.queue).await?;
            } else if look.looked_at < looks {
                break;
            }
            if found * 2 >= limit {
                return Ok(true);
            }
            let were_heads = D::set_aside(connection, &self.queue).await? == 0;
            if were_heads && looks == LOOKED_AT {
                // What is there is for others.
                break;
            }
            looks = LOOKED_AT;
        }
        let mut more = rows.len() >= limit;
        if rows.is_empty() && self.may_mend() {
            more |= D::end_claims(connection, &self.queue).await?;
            more |= D::mend_keys(connection, &self.queue).await?;
        }
        Ok(more)
    }

    /// How much more one claim may bring, which may take several statements.
    fn room(&self, rows: &[Claimed], limit: usize) -> Limit {
        let bytes = rows.iter().map(|row| row.row.bytes()).sum();
        Limit { rows: limit.saturating_sub(rows.len()), bytes: self.config.batch_bytes.saturating_sub(bytes) }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to look for what is not as it should be: once in a visibility timeout.
    fn may_mend(&self) -> bool {
        let now = Instant::now();
        let mut end_claims_at = self.end_claims_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = now >= *end_claims_at;
        if may {
            *end_claims_at = now + self.config.visibility_timeout;
        }
        may
    }

    /// Takes in what was claimed.
    pub(super) fn take_in(&self, intake: Intake, now: Instant) {
        let mut unreadable = Vec::new();
        // Keys of which a row is let go again, and so are those behind it.
        let mut held_back = HashSet::new();
        let mut state = self.shared.lock();
        for claim in intake.gone {
            state.ledger.forget(claim, now);
        }
        for Claimed { claim, row, now_ms, go_due_ms, key } in intake.rows {
            if key.is_some_and(|key| held_back.contains(&key.key)) {
                state.ledger.release(Release { claim, delay: Duration::ZERO, tried: false }, key, now);
                continue;
            }
            let message = match row.message {
                Ok(message) => message,
                Err(Unreadable { error, remains: message }) => {
                    let reason = error.to_string();
                    unreadable.push((claim, error));
                    if self.dead_letters.is_some() {
                        let dead =
                            DeadLetter { offset: claim.offset, message, reason, attempts: claim.attempt };
                        state.ledger.push_dead((claim, key), dead, now);
                    } else {
                        let delay = self.config.retry.delay(claim.attempt.saturating_sub(1));
                        state.ledger.release(Release { claim, delay, tried: true }, key, now);
                        held_back.extend(key.map(|key| key.key));
                    }
                    continue;
                }
            };
            // A writer that does not know our column for due times says it in the metadata, or in Go's, which
            // has whole seconds. What cannot be read there delays nothing.
            let due_ms = message.due_ms().or(go_due_ms);
            match due_ms.filter(|due_ms| *due_ms > now_ms) {
                Some(due_ms) => {
                    let delay = Duration::from_millis(due_ms.abs_diff(now_ms));
                    state.ledger.release(Release { claim, delay, tried: false }, key, now);
                    held_back.extend(key.map(|key| key.key));
                }
                None => state.ledger.push((claim, key), message, row.published_at, intake.asked),
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
