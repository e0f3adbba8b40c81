//! Reading a shard: which lease to take, what may be taken in, and when to leave.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{Reader, intake::Fetching, keep::Keeping, leaving::Leave, record::CLOSE_TIMEOUT, too_new};
use crate::{
    SqlSubscriberConfig,
    connection::{Pooled, within},
    error::{Failure, Trouble, classify},
    log::{
        dialect::{Fetched, LogDialect},
        lease::{Claim, Claimed, Taken},
    },
    marshaler::Unreadable,
    position::Position,
    shards::{Found, Holding, Intake, Next, Plan, Replaced, Slot, Survey, Turn, shard_of, stored},
    stored::Stored,
    wake,
};

/// How long a reader at rest does not look at the plan at most.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How soon it looks again for the boundary of a change.
const BOUNDARY_INTERVAL: Duration = Duration::from_millis(50);

/// What came of trying to take a shard.
enum Tried {
    Ours(Box<(Taken, SqlSubscriberConfig)>, Holding),
    /// For this reason, and so long.
    Wait(String, Duration),
    TooNew(i64),
}

impl<D: LogDialect> Reader<D> {
    /// Waits for the shard's lease; `None` when the subscription ends first.
    pub(super) async fn own_shard(&mut self) -> Option<(Taken, Option<Holding>)> {
        let mut failures = 0;
        loop {
            if self.shared.is_over() {
                return None;
            }
            let asked = Instant::now();
            let tried = {
                let mut trying = pin!(self.try_shard());
                tokio::select! {
                    tried = &mut trying => tried,
                    // It may succeed nevertheless: then it is taken, to be given back.
                    () = self.shared.closing().cancelled() => match timeout(CLOSE_TIMEOUT, trying).await {
                        Ok(ours @ Ok(Tried::Ours(..))) => ours,
                        _ => return None,
                    },
                }
            };
            let wait = match tried {
                Ok(Tried::Ours(ours, holding)) => {
                    let (taken, config) = *ours;
                    self.shared.lock().own_until(asked + config.lease);
                    self.config = config;
                    return Some((taken, Some(holding)));
                }
                Ok(Tried::Wait(why, wait)) => {
                    failures = 0;
                    self.degraded(why);
                    wait
                }
                Err(failure) if failure.trouble() == Trouble::Closed => {
                    self.trouble(failure, None);
                    return None;
                }
                failed => {
                    let failure = match failed {
                        Ok(Tried::TooNew(version)) => too_new(version),
                        Err(failure) => failure,
                        Ok(_) => unreachable!("the others are seen to"),
                    };
                    let wait = self.config.retry.delay(failures);
                    failures += 1;
                    self.trouble(failure, Some(wait));
                    wait
                }
            };
            self.shared.start();
            tokio::select! {
                () = self.shared.closing().cancelled() => return None,
                () = self.shared.work() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn try_shard(&self) -> Result<Tried, Failure> {
        let slot = self.slot.as_ref().expect("it reads a shard");
        let _alone = slot.member.claiming.lock().await;
        within(self.config.statement_max(), async {
            let mut pooled = Pooled::clean(&self.pool).await?;
            let tried = self.try_over(pooled.get(), slot).await?;
            pooled.settled();
            Ok(tried)
        })
        .await
    }

    async fn try_over(&self, connection: &mut D::Connection, slot: &Slot) -> Result<Tried, Failure> {
        let now = Instant::now();
        let survey = match slot.member.surveyed(now) {
            Some(survey) => survey,
            None => slot.member.note(self.survey(connection, slot).await?, now),
        };
        if self.turn(connection, slot, &survey, &survey.positions()).await? {
            return Ok(Tried::Wait("another number of shards begins".to_owned(), Duration::ZERO));
        }
        let asks = slot.member.ask(&survey, now);
        if let Some(plan) = asks
            && self.replace(connection, slot, &survey.text, &plan).await?
        {
            slot.member.forget();
        }
        match slot.next(&survey, self.config.lease, now) {
            Next::Wait(why, wait) => return Ok(Tried::Wait(why, wait)),
            Next::Claim => {}
        }
        let place = slot.place(&survey.plan);
        let config = self.config.clone().for_shard(survey.plan.group(&slot.member.base, slot.number), place);
        let claim = Claim { tables: &self.tables, owner: &self.owner, config: &config };
        Ok(match D::claim(connection, &claim).await {
            Ok(Claimed::Ours(taken)) => {
                slot.member.forget();
                Tried::Ours(Box::new((taken, config)), slot.took())
            }
            Ok(Claimed::Held { by, remaining }) => {
                let wait = remaining.min(self.config.poll_interval_max);
                Tried::Wait(format!("standing by: {by} has the lease"), wait)
            }
            Ok(Claimed::TooNew { version }) => Tried::TooNew(version),
            // Its generation is over, and it is there no more.
            Err(sqlx::Error::RowNotFound) => {
                slot.member.forget();
                Tried::Wait("another number of shards begins".to_owned(), BOUNDARY_INTERVAL)
            }
            Err(error) => return Err(classify::<D>(error)),
        })
    }

    async fn survey(&self, connection: &mut D::Connection, slot: &Slot) -> Result<Survey, Failure> {
        let base = &*slot.member.base;
        let Some((plan, text)) = stored::<D>(connection, self.tables.topic(), base).await? else {
            let why =
                format!("the plan of the shards of the group {base:?} is gone: start its readers again");
            return Err(Failure::because(Trouble::Refused, why));
        };
        let rows = D::groups(connection, &self.tables, true).await.map_err(classify::<D>)?;
        let shards = (0..plan.shards).filter_map(|number| {
            let group = plan.group(base, number);
            let row = rows.iter().find(|row| row.group == group)?;
            let is_held = row.remaining_ms.is_some_and(|ms| ms > 0);
            let owner = row.owner.clone().filter(|owner| is_held && *owner != self.owner);
            Some((number, Found { position: row.position.offset, owner }))
        });
        let shards = shards.collect();
        Ok(Survey { plan, text, shards })
    }

    /// Begins the next generation, if all shards of this one are done; whether it has begun.
    async fn turn(
        &self,
        connection: &mut D::Connection,
        slot: &Slot,
        Survey { plan, text, .. }: &Survey,
        positions: &[i64],
    ) -> Result<bool, Failure> {
        let Some((next, position)) = plan.turn(positions) else { return Ok(false) };
        let (topic, base) = (self.tables.topic(), &*slot.member.base);
        let replaced = Replaced { topic, group: base, from: text.clone(), to: next.encode() };
        let turn = Turn {
            replaced,
            over: plan.groups(base),
            next: next.groups(base),
            position,
            silence: self.config.lease,
        };
        if D::turn(connection, &self.tables, &turn).await.map_err(classify::<D>)? {
            let (from, to) = (plan.shards, next.shards);
            tracing::info!(
                topic,
                group = base,
                from,
                to,
                offset = position,
                "the number of shards has changed"
            );
        }
        slot.member.forget();
        Ok(true)
    }

    async fn replace(
        &self,
        connection: &mut D::Connection,
        slot: &Slot,
        from: &str,
        to: &Plan,
    ) -> Result<bool, Failure> {
        let (topic, group) = (self.tables.topic(), &*slot.member.base);
        let replaced = Replaced { topic, group, from: from.to_owned(), to: to.encode() };
        D::replace_plan(connection, &replaced).await.map_err(classify::<D>)
    }

    /// Looks at the plan after a fetch: keeps of what has come what may be taken in, gets a change on, and says whether to
    /// leave.
    pub(super) async fn look(
        &self,
        connection: &mut D::Connection,
        slot: &Slot,
        fetching: &mut Fetching<D>,
        after: Position,
        fetched: &mut Fetched,
    ) -> Result<(), Failure> {
        let Some(place) = self.config.shard else { return Ok(()) };
        let (topic, base) = (self.tables.topic(), &*slot.member.base);
        let Some((mut plan, text)) = stored::<D>(connection, topic, base).await? else {
            return Err(Failure::because(Trouble::Refused, "the plan of the shards is gone"));
        };
        let next = match plan.intake(place.generation) {
            Intake::Everything => plan.close(),
            // The highest that there is now, or that was: what was read may have been deleted.
            Intake::Nothing => {
                let highest = D::highest_offset(connection, &self.tables).await.map_err(classify::<D>)?;
                plan.set_boundary(highest.max(after.offset))
            }
            Intake::UpTo(_) | Intake::Over => None,
        };
        if let Some(next) = next
            && self.replace(connection, slot, &text, &next).await?
        {
            plan = next;
        } else if fetching.leaving.may_give(Instant::now())
            && let Some(given) = slot.member.give(&plan)
            && self.replace(connection, slot, &text, &given).await?
        {
            fetching.leaving.give(Instant::now());
            fetched.rows.clear();
        }
        match plan.intake(place.generation) {
            Intake::Everything => return Ok(()),
            Intake::Nothing => fetched.rows.clear(),
            Intake::UpTo(boundary) => {
                let last = fetched.rows.last().map_or(after, |row| row.position);
                fetched.rows.retain(|row| row.position.offset <= boundary);
                if last.offset < boundary && !fetching.is_at_the_end(boundary, fetched) {
                    fetching.look_by(Instant::now() + BOUNDARY_INTERVAL);
                    return Ok(());
                }
                fetching.leaving.through(boundary.into());
            }
            Intake::Over => {
                fetched.rows.clear();
                fetching.leaving.through(after);
            }
        }
        // What was read and not taken in is read again by the same cursor, which goes on from what was: one that began anew
        // would wait anew for every writer that it has waited for.
        fetching.look_by(Instant::now() + BOUNDARY_INTERVAL);
        fetched.more = false;
        Ok(())
    }

    /// Whether another shard's reader sees to a row.
    pub(super) fn is_foreign(&self, position: Position, message: &Result<Stored, Unreadable>) -> bool {
        let (Some(slot), Some(place)) = (&self.slot, self.config.shard) else { return false };
        let key = match message {
            Ok(stored) => (slot.member.key_of)(&stored.message()),
            Err(_) => None,
        };
        shard_of(key.as_deref(), position.offset, place.shards) != place.number
    }

    /// Why to leave now, with everything done and recorded. One that was asked for its shard, and cannot give it, goes on.
    pub(super) fn may_leave(&self, fetching: &mut Fetching<D>, now: Instant) -> Option<Leave> {
        let leave = fetching.leaving.look(now)?;
        let mut state = self.shared.lock();
        if matches!(leave, Leave::Asked(_)) {
            state.ledger.drop_fresh();
        }
        (state.ledger.is_empty() && !state.ledger.has_unsaved()).then_some(leave)
    }

    /// Gives the lease back.
    pub(super) async fn give_back_shard(&self, keeping: &mut Keeping<D>) {
        let released = timeout(CLOSE_TIMEOUT, self.record_and_release(None, keeping)).await;
        if let Ok(Err(failure)) = released {
            // It runs out by itself.
            tracing::debug!(
                topic = self.tables.topic(),
                reason = failure.text(),
                "the shard is not given back"
            );
        }
        wake::wake_standbys(self.tables.topic(), self.config.group_name());
    }

    /// The shard is somebody else's now, or nobody's.
    pub(super) fn left(&self, leave: Leave) {
        if let (Leave::Asked(_), Some(slot)) = (leave, &self.slot) {
            slot.left(Instant::now());
        }
        tracing::debug!(topic = self.tables.topic(), group = self.config.group_name(), ?leave, "left");
        let mut state = self.shared.lock();
        state.disown();
        state.held_back_by = None;
        drop(state);
        self.shared.lose(&self.origin);
    }
}
