//! [`Reader`]: the background task of a subscription. It owns the lease, fetches rows and records
//! outcomes; everything it does is one short statement or transaction.

mod connection;
mod intake;
mod record;

use std::{sync::Arc, time::Duration};

use sqlx::{Pool, pool::PoolConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use watermill_core::{delivery::Origin, error::SettleError, subscription::Health};

use self::{connection::Kept, record::GOODBYE_MAX};
use crate::{
    SqlSubscriberConfig,
    dialect::Dialect,
    error::{Failure, Trouble},
    held_back::Waiting,
    lease::{Claim, Claimed, Lease, Taken},
    ledger::Ledger,
    position::Position,
    settle::{Desk, Hand as _},
    subscription::Ended,
    topic::Tables,
    wake,
};

pub(crate) struct Reader<D: Dialect> {
    pub(crate) pool: Pool<D>,
    pub(crate) config: SqlSubscriberConfig,
    pub(crate) tables: Tables,
    pub(crate) dead_letters: Option<Tables>,
    /// Unique to this subscription.
    pub(crate) owner: String,
    pub(crate) desk: Arc<Desk<Ledger>>,
    pub(crate) origin: Origin,
}

/// What the task knows while it owns the lease.
struct Term<D: Dialect> {
    lease: Lease,
    /// `None` before the first fetch.
    cursor: Option<D::Cursor>,
    /// What the cursor cannot do without between two fetches.
    connection: Option<Kept<D>>,
    waiting: Waiting,
    renew_at: Instant,
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

impl<D: Dialect> Reader<D> {
    /// Runs until the subscription is closed or dropped.
    pub(crate) async fn run(self, ended: watch::Sender<Ended>) {
        let _end = self.desk.end_when_dropped();
        let mut published = wake::listen(self.tables.topic());
        let mut released = wake::listen_for_lease(self.tables.topic(), self.config.group_name());
        let result = loop {
            let Some(taken) = self.own(&mut released).await else { break Ok(()) };
            let mut term = self.begin(taken);
            self.desk.started.notify_one();
            match self.serve(&mut term, &mut published).await {
                Over::Closing => break self.finish(&mut term).await,
                Over::Lost => self.lose(),
            }
        };
        self.desk.end();
        ended.send_replace(Some(result));
    }

    /// Waits for the lease; `None` when the subscription ends first.
    async fn own(&self, released: &mut wake::Waker) -> Option<Taken> {
        let mut failures = 0;
        loop {
            if self.desk.is_through() {
                return None;
            }
            let claim = Claim { tables: &self.tables, owner: &self.owner, config: &self.config };
            let asked = Instant::now();
            let claimed = tokio::select! {
                () = self.desk.closing.cancelled() => return self.give_up(&claim).await,
                claimed = self.claim(&claim) => claimed,
            };
            let wait = match claimed {
                Ok(Claimed::Ours(taken)) => {
                    self.desk.lock().valid_until = Some(asked + self.config.lease);
                    return Some(taken);
                }
                Ok(Claimed::Held { by, remaining }) => {
                    failures = 0;
                    self.degraded(format!("standing by: {by} has the lease"));
                    remaining.min(self.config.poll_interval_max)
                }
                Err(failure) if failure.trouble == Trouble::Closed => {
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
            self.desk.started.notify_one();
            tokio::select! {
                () = self.desk.closing.cancelled() => return None,
                () = self.desk.work.notified() => {}
                () = released.woken() => {}
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    /// A claim that was interrupted may have succeeded nevertheless: take it, to give it back.
    async fn give_up(&self, claim: &Claim<'_>) -> Option<Taken> {
        match timeout(GOODBYE_MAX, self.claim(claim)).await {
            Ok(Ok(Claimed::Ours(taken))) => Some(taken),
            _ => None,
        }
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed, Failure> {
        let mut connection = self.connect().await?;
        D::claim(&mut connection, claim).await.map_err(Failure::of::<D>)
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
        let mut state = self.desk.lock();
        state.hand.begin(lease.position, progress, unclear_up_to);
        state.health = Health::Healthy;
        drop(state);
        Term {
            lease,
            cursor: None,
            connection: None,
            waiting: Waiting::default(),
            renew_at: now + self.config.lease / 3,
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
        let mut state = self.desk.lock();
        state.valid_until = None;
        state.held_back = None;
        state.hand.lose(SettleError::lost);
        drop(state);
        self.origin.revoke(|_| true);
        self.degraded("the lease was lost".to_owned());
    }

    async fn serve(&self, term: &mut Term<D>, published: &mut wake::Waker) -> Over {
        loop {
            // Whoever stops taking and has settled everything need not be waited for.
            if self.desk.closing.is_cancelled() || self.desk.is_through() {
                return Over::Closing;
            }
            let now = Instant::now();
            // Whether or not the database is there, a delay ends when it ends.
            if self.desk.lock().hand.due().is_some_and(|due| due <= now) {
                self.desk.wake_reader();
            }
            if term.rest_until.is_none_or(|until| until <= now) {
                term.rest_until = None;
                match self.work(term, now).await {
                    Ok(true) => self.recovered(term),
                    Ok(false) => return Over::Lost,
                    Err(failure) if failure.trouble == Trouble::Closed => {
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
            let until = self.next_thing(term);
            tokio::select! {
                () = self.desk.closing.cancelled() => {}
                () = self.desk.work.notified() => {}
                () = published.woken() => {
                    term.poll_interval = self.config.poll_interval_min;
                    term.poll_at = Instant::now();
                }
                () = sleep_until(until) => {}
            }
        }
    }

    /// Does what is due; false when the lease is lost.
    async fn work(&self, term: &mut Term<D>, now: Instant) -> Result<bool, Failure> {
        if now >= term.renew_at && !self.renew(term).await? {
            return Ok(false);
        }
        if self.record_at().is_some_and(|at| at <= now) && !self.record(term).await? {
            return Ok(false);
        }
        if self.wants_rows() && now >= term.poll_at && term.held.is_none_or(|(_, _, at)| at <= now) {
            self.fetch(term).await?;
        }
        Ok(true)
    }

    /// When there is something to do, if nothing happens before.
    fn next_thing(&self, term: &Term<D>) -> Instant {
        let mut until = term.renew_at;
        if let Some(at) = self.record_at() {
            until = until.min(at);
        }
        if self.wants_rows() {
            let held_until = term.held.map_or(term.poll_at, |(_, _, at)| at);
            until = until.min(term.poll_at.max(held_until));
        }
        if let Some(rest_until) = term.rest_until {
            until = until.max(rest_until);
        }
        // Deliveries come due without the database.
        match self.desk.lock().hand.due() {
            Some(due) if due > Instant::now() => until.min(due),
            _ => until,
        }
    }

    async fn renew(&self, term: &mut Term<D>) -> Result<bool, Failure> {
        let mut connection = self.connect().await?;
        let asked = Instant::now();
        if !D::renew(&mut connection, &mut term.lease, self.config.lease).await.map_err(Failure::of::<D>)? {
            return Ok(false);
        }
        term.renew_at = asked + self.config.lease / 3;
        self.desk.lock().valid_until = Some(asked + self.config.lease);
        // Had it run out meanwhile, the stream would be waiting.
        self.desk.wake_reader();
        Ok(true)
    }

    async fn connect(&self) -> Result<PoolConnection<D>, Failure> {
        self.pool.acquire().await.map_err(Failure::of::<D>)
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
        let mut state = self.desk.lock();
        if state.health != Health::Healthy && state.held_back.is_none() {
            state.health = Health::Healthy;
        }
    }

    fn degraded(&self, reason: String) {
        self.desk.lock().health = Health::Degraded { reason };
    }

    /// Trouble, and how long to wait before trying again; `None` ends the subscription.
    fn trouble(&self, failure: Failure, wait: Option<Duration>) {
        let (reason, topic, group) = (failure.text(), self.tables.topic(), self.config.group_name());
        match wait {
            Some(wait) => tracing::warn!(topic, group, reason, ?wait, "the database fails, trying again"),
            None => tracing::error!(topic, group, reason, "the subscription ends"),
        }
        self.degraded(reason);
        self.desk.report(failure.subscribing(topic));
    }
}
