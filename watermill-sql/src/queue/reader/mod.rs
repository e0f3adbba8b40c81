//! [`QueueReader`]: the background task of a subscription to a queue.
//!
//! Claiming rows, and renewing and recording, go on side by side, over a connection each, so that a worker
//! whose handlers are quick waits for neither, and what is in hand stays there while nothing can be claimed.
//!
//! Of the core's backend kit it stands on [`Shared`] with a ledger of its own, as the log does. The kit's loop, `run`, is not for
//! either: a claim is bounded in bytes and hoards nothing, knows when the next message is due, and of a key that is in hand takes
//! more while nothing is recorded; what is renewed, recorded, dead-lettered and passed on to the next of a key is one transaction.

mod intake;
mod record;
mod source;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod turns;

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use futures::future::{Fuse, FusedFuture, FutureExt};
use sqlx::Pool;
use tokio::time::{Instant, sleep_until, timeout};
use watermill_core::{
    backend::{Ledger as _, Shared, State, WakeFor},
    delivery::Origin,
};

use self::intake::Intake;
use self::turns::Turns;
use super::{Claims, OrderedDialect, Queue, SqlQueueSubscriberConfig};
use crate::{
    connection::{IDLE_MAX, Pooled, Reserve},
    error::{Failure, Trouble},
    pace::{self, Pace, Polling},
    schema::Found,
    topic::Tables,
    wake,
    watch::Seat,
};

/// How long a subscription that ends may take to record what it knows.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Workers that meet at a row may deadlock, and one of them is to try again; so often it is nobody's
/// business.
const COLLISIONS_MAX: u32 = 3;

pub(super) struct QueueReader<D: OrderedDialect> {
    pub(super) pool: Pool<D>,
    pub(super) reserve: Arc<Reserve<D>>,
    pub(super) config: SqlQueueSubscriberConfig,
    pub(super) queue: Queue,
    pub(super) dead_letters: Option<(Tables, Found)>,
    pub(super) shared: Arc<Shared<Claims>>,
    pub(super) origin: Origin,
    /// Connections for the next statements, and until when: of those that claim, and of those that record.
    pub(super) kept: Mutex<Vec<(Pooled<D>, Instant)>>,
    /// `None` where it has to look for itself.
    pub(super) watched: Option<Seat>,
    /// Where claims begin to look.
    pub(super) turns: Mutex<Turns>,
    /// When to look for claims of another time.
    pub(super) end_claims_at: Mutex<Instant>,
    /// How many rows of a table that is not ours fitted into one claim.
    pub(super) fitting: AtomicUsize,
}

/// When the task does what.
struct Plan {
    polling: Polling,
    renew_at: Instant,
    claiming: Pace,
    writing: Pace,
}

impl Plan {
    fn claim_at(&self) -> Instant {
        self.claiming.not_before(self.polling.at())
    }
}

impl<D: OrderedDialect> QueueReader<D> {
    /// Runs until the subscription is closed or dropped.
    pub(super) async fn run(self) {
        let task = self.shared.task();
        let mut published = wake::listen(self.queue.tables.topic());
        self.shared.start();
        let result = self.work(&mut published).await;
        task.end(result);
    }

    async fn work(&self, published: &mut wake::WakeUps) -> Result<(), String> {
        let now = Instant::now();
        let mut plan = Plan {
            polling: Polling::new(self.config.poll_interval_min, now),
            renew_at: now,
            claiming: Pace::default(),
            writing: Pace::default(),
        };
        // Set anew only to end earlier, because that takes a system call: it may end too early, which
        // does no harm.
        let mut timer = pin!(sleep_until(now));
        let mut claiming = pin!(Fuse::terminated());
        let mut writing = pin!(Fuse::terminated());
        // While more is claimed of keys that are in hand, nothing is recorded: that could end one of them.
        let mut extending = false;
        // Whoever stops taking and has settled everything need not be waited for.
        while !self.shared.is_over() {
            let now = Instant::now();
            self.shared.lock().wake_for = WakeFor::NOTHING;
            self.kept().retain(|(_, until)| now < *until);
            let write_at = self.write_at(&plan, &self.shared.lock(), !extending);
            if write_at.is_some_and(|at| at <= now) && writing.is_terminated() {
                writing.set(self.write(plan.renew_at <= now, !extending).fuse());
            }
            let wanted = self.wanted();
            if wanted > 0 && plan.claim_at() <= now && claiming.is_terminated() {
                let holders =
                    if writing.is_terminated() { self.shared.lock().ledger.holders() } else { vec![] };
                extending = !holders.is_empty();
                claiming.set(self.claim(wanted, holders).fuse());
            }
            let until =
                self.sleeps_until(&plan, claiming.is_terminated(), writing.is_terminated(), !extending);
            if until < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            let failure = tokio::select! {
                () = self.shared.closing().cancelled() => None,
                claimed = &mut claiming => match claimed {
                    Ok(intake) => {
                        extending = false;
                        self.recovered(plan.claiming.succeeded(), plan.writing.failures());
                        self.claimed(&mut plan, intake);
                        None
                    }
                    Err(failure) => {
                        extending = false;
                        let wait = self.config.retry.delay(plan.claiming.failures());
                        Some((failure, plan.claiming.failed(wait), wait))
                    }
                },
                written = &mut writing => match written {
                    Ok(renewed) => {
                        self.recovered(plan.writing.succeeded(), plan.claiming.failures());
                        plan.renew_at = renewed.unwrap_or(plan.renew_at);
                        None
                    }
                    Err(failure) => {
                        // So that it is tried again while what is in hand is ours.
                        let wait = self.config.retry.delay(plan.writing.failures());
                        let wait = wait.min(self.config.visibility_timeout / 6);
                        Some((failure, plan.writing.failed(wait), wait))
                    }
                },
                () = self.shared.work() => None,
                () = published.woken() => {
                    plan.polling.woken(Instant::now());
                    None
                }
                () = timer.as_mut() => None,
            };
            if let Some((failure, failures, wait)) = failure
                && self.failed(failure, failures, wait)
            {
                break;
            }
        }
        self.finish(claiming, writing).await
    }

    fn wanted(&self) -> usize {
        self.wanted_in(&self.shared.lock())
    }

    fn wanted_in(&self, state: &State<Claims>) -> usize {
        if state.is_stopped() { 0 } else { state.ledger.wanted(self.config.batch_size) }
    }

    /// When outcomes are to be recorded or claims to be renewed.
    fn write_at(&self, plan: &Plan, state: &State<Claims>, may_record: bool) -> Option<Instant> {
        let renew_at = (!state.ledger.is_empty()).then_some(plan.renew_at);
        let record_at = if may_record { self.shared.record_at(state) } else { None };
        renew_at.into_iter().chain(record_at).min().map(|at| plan.writing.not_before(at))
    }

    /// When there is something to do, if nothing happens before that the task is woken for. What is under way
    /// tells by itself when it is done.
    fn sleeps_until(&self, plan: &Plan, may_claim: bool, may_write: bool, may_record: bool) -> Instant {
        let a_while = Instant::now() + self.config.visibility_timeout;
        let mut state = self.shared.lock();
        let claim_at = (may_claim && self.wanted_in(&state) > 0).then(|| plan.claim_at());
        let write_at = if may_write { self.write_at(plan, &state, may_record) } else { None };
        if let Some(seat) = &self.watched {
            seat.rest(pace::rests(claim_at, Instant::now()));
        }
        let until = claim_at.into_iter().chain(write_at).min().unwrap_or(a_while);
        state.wake_for =
            WakeFor { room: may_claim, recording_before: (may_write && may_record).then_some(until) };
        let kept_until = self.kept().iter().map(|(_, until)| *until).min();
        kept_until.map_or(until, |kept_until| until.min(kept_until))
    }

    /// What a claim has found, and when to claim again.
    fn claimed(&self, plan: &mut Plan, intake: Intake) {
        let now = Instant::now();
        let found = intake.rows.len();
        let mut state = self.shared.lock();
        if state.ledger.is_empty() {
            state.own_until(intake.asked + self.config.visibility_timeout);
            plan.renew_at = intake.asked + self.config.visibility_timeout / 3;
        }
        let (min, max) = (self.config.poll_interval_min, self.config.poll_interval_max);
        if intake.full {
            plan.polling.found(Duration::ZERO, min, now);
            state.ledger.came_full(self.config.batch_size);
        } else if found > 0 {
            plan.polling.found(min, min, now);
        } else {
            // What is mended once in a visibility timeout is not noticed by the watch.
            let rest_max = self.config.visibility_timeout.max(max);
            let at_rest = self.watched.as_ref().map_or(max, |seat| seat.pause(max).min(rest_max));
            plan.polling.found_nothing(max, at_rest, now);
        }
        if let Some(due) = intake.due {
            plan.polling.no_later_than(now + due);
        }
        drop(state);
        // Claims whose rows are gone are done with, whatever else there is.
        if found > 0 || !intake.gone.is_empty() {
            self.take_in(intake, now);
            self.shared.wake_stream();
        }
    }

    /// A connection that was kept from a statement before.
    pub(super) fn take_kept(&self) -> Option<Pooled<D>> {
        self.kept().pop().map(|(pooled, _)| pooled)
    }

    /// Keeps a connection for the next statement after one that was answered, where nobody waits for it.
    pub(super) fn keep(&self, mut pooled: Pooled<D>) {
        pooled.settled();
        let now = Instant::now();
        if pooled.may_be_kept(&self.pool, now) {
            self.kept().push((pooled, now + IDLE_MAX));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Pooled<D>, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the two works, which has failed so often before, and so has the other.
    fn recovered(&self, failures: u32, others: u32) {
        if failures > COLLISIONS_MAX {
            tracing::info!(topic = self.queue.tables.topic(), "the database answers again");
        }
        if others <= COLLISIONS_MAX {
            self.shared.lock().recovered();
        }
    }

    /// Trouble, for the so many-th time in a row, and how long to wait; true when nothing is tried again.
    fn failed(&self, failure: Failure, failures: u32, wait: Duration) -> bool {
        let topic = self.queue.tables.topic();
        if failure.trouble() == Trouble::Conflict && failures <= COLLISIONS_MAX {
            tracing::debug!(topic, reason = failure.text(), "two workers collided, trying again");
            return false;
        }
        let is_over = failure.trouble() == Trouble::Closed;
        let reason = failure.text();
        match is_over {
            true => tracing::error!(topic, reason, "the subscription ends"),
            false => tracing::warn!(topic, reason, ?wait, "the database fails, trying again"),
        }
        self.shared.lock().degraded(reason);
        self.shared.report(failure.subscribing(topic));
        is_over
    }

    /// Records what is settled and lets everything go: the graceful end.
    async fn finish<C, W>(
        &self,
        mut claiming: Pin<&mut Fuse<C>>,
        mut writing: Pin<&mut Fuse<W>>,
    ) -> Result<(), String>
    where
        C: Future<Output = Result<Intake, Failure>>,
        W: Future,
    {
        self.shared.give_back(&self.origin);
        self.kept().clear();
        let recorded = async {
            // A claim that is under way may succeed, and what it gets is for others. Side by side, for each
            // may have the connection that the other waits for.
            let claimed = async {
                match claiming.is_terminated() {
                    true => None,
                    false => claiming.as_mut().await.ok(),
                }
            };
            let written = async {
                if !writing.is_terminated() {
                    writing.as_mut().await;
                }
            };
            if let (Some(intake), ()) = futures::future::join(claimed, written).await {
                self.take_in(intake, Instant::now());
                self.shared.lock().ledger.give_back(Instant::now());
            }
            let mut failures = 0;
            loop {
                match self.record().await {
                    Ok(()) => return Ok(()),
                    Err(failure)
                        if matches!(failure.trouble(), Trouble::Unavailable | Trouble::Conflict)
                            && failures < 3 =>
                    {
                        tokio::time::sleep(self.config.retry.delay(failures)).await;
                        failures += 1;
                    }
                    Err(failure) => return Err(failure.text()),
                }
            }
        };
        let result = timeout(CLOSE_TIMEOUT, recorded).await;
        result.unwrap_or_else(|_| Err(format!("the database did not answer within {CLOSE_TIMEOUT:?}")))
    }
}
