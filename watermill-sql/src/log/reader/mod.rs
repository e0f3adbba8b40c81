//! [`Reader`]: the background task of a subscription. It owns the lease, fetches rows and records
//! outcomes; everything it does is one short statement or transaction.

mod connection;
mod intake;
mod record;
mod waiting;

use std::{pin::pin, sync::Arc, time::Duration};

use sqlx::{Pool, pool::PoolConnection};
use tokio::time::{Instant, sleep_until, timeout};
use watermill_core::{
    backend::{Shared, WakeFor},
    delivery::Origin,
    subscription::Health,
};

use self::{connection::Kept, intake::wants_rows, record::CLOSE_TIMEOUT, waiting::Waiting};
use super::{
    SqlSubscriberConfig,
    dialect::LogDialect,
    lease::{Claim, Claimed, Lease, Taken, VERSION},
    ledger::LogLedger,
};
use crate::{
    error::{Failure, Trouble, classify},
    position::Position,
    topic::Tables,
    wake,
};

pub(crate) struct Reader<D: LogDialect> {
    pub(crate) pool: Pool<D>,
    pub(crate) config: SqlSubscriberConfig,
    pub(crate) tables: Tables,
    pub(crate) dead_letters: Option<Tables>,
    /// Unique to this subscription.
    pub(crate) owner: String,
    pub(crate) shared: Arc<Shared<LogLedger>>,
    pub(crate) origin: Origin,
}

/// What the task knows while it owns the lease.
struct Term<D: LogDialect> {
    lease: Lease,
    /// `None` before the first fetch.
    cursor: Option<D::Cursor>,
    /// For the next statement, because to get one of the pool takes longer than most statements.
    connection: Option<Kept<D>>,
    /// When it goes back; `None` while the cursor cannot do without it, or when there is none.
    kept_until: Option<Instant>,
    waiting: Waiting,
    renew_at: Instant,
    /// When to look whether the table is the one that was read.
    check_at: Instant,
    poll_at: Instant,
    poll_interval: Duration,
    /// Attempts that failed in a row, and until when to leave the database alone.
    failures: u32,
    rest_until: Option<Instant>,
    /// A row that cannot be read: how often it was looked at, and when to look again.
    held: Option<(Position, u32, Instant)>,
}

/// Why a term of ownership ended.
enum Over {
    Closing,
    Lost,
}

impl<D: LogDialect> Reader<D> {
    /// Runs until the subscription is closed or dropped.
    pub(crate) async fn run(self) {
        let task = self.shared.task();
        let mut published = wake::listen(self.tables.topic());
        let mut released = wake::listen_for_lease(self.tables.topic(), self.config.group_name());
        let result = loop {
            let Some(taken) = self.own(&mut released).await else { break Ok(()) };
            let mut term = self.begin(taken);
            self.shared.start();
            match self.serve(&mut term, &mut published).await {
                Over::Closing => break self.finish(&mut term).await,
                Over::Lost => self.lose(),
            }
        };
        task.end(result);
    }

    /// Waits for the lease; `None` when the subscription ends first.
    async fn own(&self, released: &mut wake::WakeUps) -> Option<Taken> {
        let mut failures = 0;
        loop {
            if self.shared.is_over() {
                return None;
            }
            let claim = Claim { tables: &self.tables, owner: &self.owner, config: &self.config };
            let asked = Instant::now();
            let mut claiming = pin!(self.claim(&claim));
            let claimed = tokio::select! {
                claimed = &mut claiming => claimed,
                // It may succeed nevertheless: then it is taken, to be given back.
                () = self.shared.closing().cancelled() => match timeout(CLOSE_TIMEOUT, claiming).await {
                    Ok(Ok(Claimed::Ours(taken))) => return Some(taken),
                    _ => return None,
                },
            };
            let wait = match claimed {
                Ok(Claimed::Ours(taken)) => {
                    self.shared.lock().own_until(asked + self.config.lease);
                    return Some(taken);
                }
                Ok(Claimed::Held { by, remaining }) => {
                    failures = 0;
                    self.degraded(format!("standing by: {by} has the lease"));
                    remaining.min(self.config.poll_interval_max)
                }
                Ok(Claimed::TooNew { version }) => {
                    let wait = self.config.retry.delay(failures);
                    failures += 1;
                    let why = format!(
                        "the group was read by a release that writes version {version} of its lease, and this one \
                         knows {VERSION} and the next: update this service"
                    );
                    self.trouble(Failure::because(Trouble::Refused, why), Some(wait));
                    wait
                }
                Err(failure) if failure.trouble() == Trouble::Closed => {
                    self.trouble(failure, None);
                    return None;
                }
                Err(failure) => {
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
                () = released.woken() => {}
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed, Failure> {
        let mut connection = self.connect().await?;
        D::claim(&mut connection, claim).await.map_err(classify::<D>)
    }

    fn begin(&self, taken: Taken) -> Term<D> {
        let now = Instant::now();
        let Taken { lease, progress, unclear_up_to } = taken;
        tracing::debug!(
            topic = self.tables.topic(),
            group = self.config.group_name(),
            token = lease.token,
            position = ?lease.position,
            "the lease is ours"
        );
        let mut state = self.shared.lock();
        state.ledger.begin(lease.position, progress, unclear_up_to);
        state.health = Health::Healthy;
        drop(state);
        Term {
            lease,
            cursor: None,
            connection: None,
            kept_until: None,
            waiting: Waiting::default(),
            renew_at: now + self.config.lease / 3,
            check_at: now,
            poll_at: now,
            poll_interval: self.config.poll_interval_min,
            failures: 0,
            rest_until: None,
            held: None,
        }
    }

    fn lose(&self) {
        tracing::warn!(
            topic = self.tables.topic(),
            group = self.config.group_name(),
            "the lease was lost to another reader, which gets what is outstanding"
        );
        let mut state = self.shared.lock();
        state.disown();
        state.held_back_by = None;
        state.degraded("the lease was lost");
        drop(state);
        self.shared.lose(&self.origin);
    }

    async fn serve(&self, term: &mut Term<D>, published: &mut wake::WakeUps) -> Over {
        // Set anew only to end earlier, because that takes a system call: it may end too early, which
        // does no harm.
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            // Whoever stops taking and has settled everything need not be waited for.
            if self.shared.is_over() {
                return Over::Closing;
            }
            let now = Instant::now();
            self.shared.lock().wake_for = WakeFor::NOTHING;
            if term.kept_until.is_some_and(|until| until <= now) {
                self.let_go(term);
            }
            if term.rest_until.is_none_or(|until| until <= now) {
                term.rest_until = None;
                match self.work(term, now).await {
                    Ok(true) => self.recovered(term),
                    Ok(false) => return Over::Lost,
                    Err(failure) if failure.trouble() == Trouble::Closed => {
                        self.trouble(failure, None);
                        return Over::Closing;
                    }
                    Err(failure) => {
                        let wait = self.config.retry.delay(term.failures);
                        term.failures = term.failures.saturating_add(1);
                        term.rest_until = Some(Instant::now() + wait);
                        self.trouble(failure, Some(wait));
                    }
                }
            }
            let until = self.sleeps_until(term);
            // A timer takes up to a millisecond for what is due now.
            if until <= Instant::now() {
                continue;
            }
            if until < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            tokio::select! {
                () = self.shared.closing().cancelled() => {}
                () = self.shared.work() => {}
                () = published.woken() => {
                    term.poll_interval = self.config.poll_interval_min;
                    term.poll_at = Instant::now();
                }
                () = timer.as_mut() => {}
            }
        }
    }

    /// Does what is due; false when the lease is lost.
    async fn work(&self, term: &mut Term<D>, now: Instant) -> Result<bool, Failure> {
        if now >= term.renew_at && !self.renew(term).await? {
            return Ok(false);
        }
        let record_at = self.shared.record_at(&self.shared.lock());
        if record_at.is_some_and(|at| at <= now) && !self.record(term).await? {
            return Ok(false);
        }
        let wants_rows = wants_rows(&self.shared.lock());
        if wants_rows && now >= term.poll_at && term.held.is_none_or(|(_, _, at)| at <= now) {
            self.fetch(term).await?;
        }
        Ok(true)
    }

    /// When there is something to do, if nothing happens before that the task is woken for.
    fn sleeps_until(&self, term: &Term<D>) -> Instant {
        let mut state = self.shared.lock();
        let mut until = term.renew_at;
        if let Some(at) = self.shared.record_at(&state) {
            until = until.min(at);
        }
        if wants_rows(&state) {
            let held_until = term.held.map_or(term.poll_at, |(_, _, at)| at);
            until = until.min(term.poll_at.max(held_until));
        }
        state.wake_for = WakeFor { room: true, recording_before: Some(until) };
        if let Some(rest_until) = term.rest_until {
            until = until.max(rest_until);
        }
        // A connection goes back without the database.
        until.min(term.kept_until.unwrap_or(until))
    }

    async fn renew(&self, term: &mut Term<D>) -> Result<bool, Failure> {
        let mut connection = self.connect_for(term).await?;
        let asked = Instant::now();
        let renewed = D::renew(connection.get(), &mut term.lease, self.config.lease).await;
        if !renewed.map_err(classify::<D>)? {
            return Ok(false);
        }
        self.keep(term, connection);
        term.renew_at = asked + self.config.lease / 3;
        self.shared.lock().own_until(asked + self.config.lease);
        // Had it run out meanwhile, the stream would be waiting.
        self.shared.wake_stream();
        Ok(true)
    }

    async fn connect(&self) -> Result<PoolConnection<D>, Failure> {
        self.pool.acquire().await.map_err(classify::<D>)
    }

    fn recovered(&self, term: &mut Term<D>) {
        if term.failures > 0 {
            term.failures = 0;
            tracing::info!(
                topic = self.tables.topic(),
                group = self.config.group_name(),
                "the database answers again"
            );
        }
        let mut state = self.shared.lock();
        if state.held_back_by.is_none() {
            state.recovered();
        }
    }

    fn degraded(&self, reason: String) {
        self.shared.lock().degraded(reason);
    }

    /// Trouble, and how long to wait before trying again; `None` ends the subscription.
    fn trouble(&self, failure: Failure, wait: Option<Duration>) {
        let (reason, topic, group) = (failure.text(), self.tables.topic(), self.config.group_name());
        match wait {
            Some(wait) => tracing::warn!(topic, group, reason, ?wait, "the database fails, trying again"),
            None => tracing::error!(topic, group, reason, "the subscription ends"),
        }
        self.degraded(reason);
        self.shared.report(failure.subscribing(topic));
    }
}
