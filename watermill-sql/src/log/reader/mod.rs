//! [`Reader`]: the background task of a subscription. It owns the lease, fetches rows and records
//! outcomes; everything it does is one short statement or transaction, of which each has an end.
//!
//! Fetching, and renewing and recording, go on side by side over a connection each: the lease is kept while rows
//! cannot be read, and acks are recorded.

mod connection;
mod intake;
mod keep;
mod leaving;
mod record;
mod serve;
mod shard;
mod waiting;

use std::{pin::pin, sync::Arc, time::Duration};

use sqlx::Pool;
use tokio::time::{Instant, sleep_until, timeout};
use watermill_core::{
    backend::Shared,
    delivery::Origin,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::Health,
};

use self::{record::CLOSE_TIMEOUT, serve::Over};
use super::{
    SqlSubscriberConfig,
    dialect::LogDialect,
    lease::{Claim, Claimed, Lease, SHARDED, Taken, VERSION},
    ledger::LogLedger,
    renewals::Renewals,
};
use crate::{
    connection::{Pooled, Reserve, within},
    error::{Failure, Trouble, classify},
    shards::Slot,
    topic::Tables,
    wake,
    watch::Seat,
};

pub(crate) struct Reader<D: LogDialect> {
    pub(crate) pool: Pool<D>,
    pub(crate) reserve: Arc<Reserve<D>>,
    pub(crate) renewals: Arc<Renewals>,
    pub(crate) config: SqlSubscriberConfig,
    pub(crate) tables: Tables,
    pub(crate) dead_letters: Option<Tables>,
    /// Unique to this subscription.
    pub(crate) owner: String,
    pub(crate) shared: Arc<Shared<LogLedger>>,
    pub(crate) origin: Origin,
    /// `None` where it has to look for itself.
    pub(crate) watched: Option<Seat>,
    /// Where it reads a shard.
    pub(crate) slot: Option<Slot>,
}

impl<D: LogDialect> Reader<D> {
    /// Runs until the subscription is closed or dropped.
    pub(crate) async fn run(mut self) {
        let task = self.shared.task();
        let mut published = wake::listen(self.tables.topic());
        let mut released = wake::listen_for_lease(self.tables.topic(), self.config.group_name());
        let result = loop {
            let owned = match self.slot.is_some() {
                true => self.own_shard().await,
                false => self.own(&mut released).await.map(|taken| (taken, None)),
            };
            let Some((taken, holding)) = owned else { break Ok(()) };
            let lease = self.begin(taken);
            self.shared.start();
            let _owner = self.reserve.owner();
            let served = self.serve(lease, &mut published).await;
            self.rest(false);
            drop(holding);
            match served {
                Over::Ended(result) => break result,
                Over::Lost => self.lose(),
                Over::Left(leave) => self.left(leave),
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
                    self.trouble(too_new(version), Some(wait));
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
        within(self.config.statement_max(), async {
            let mut pooled = Pooled::clean(&self.pool).await?;
            let claimed = match D::claim(pooled.get(), claim).await {
                Err(sqlx::Error::RowNotFound) if self.config.ends_with_subscription => {
                    D::create_group(pooled.get(), &self.tables, &self.config).await.map_err(classify::<D>)?;
                    self.missed();
                    D::claim(pooled.get(), claim).await
                }
                claimed => claimed,
            };
            let claimed = claimed.map_err(classify::<D>)?;
            pooled.settled();
            Ok(claimed)
        })
        .await
    }

    /// The subscription's own group had gone, and begins anew.
    fn missed(&self) {
        let (topic, group) = (self.tables.topic(), self.config.group_name());
        let why = "the group of this subscription was removed as that of an ended process, for its lease had been over for \
                   long; it goes on with what is newest";
        tracing::warn!(topic, group, "messages may have been missed: {why}");
        self.shared.report(SubscribeError::new(SubscribeErrorKind::Missed, topic).because(why));
    }

    fn begin(&self, Taken { lease, progress, unclear_up_to }: Taken) -> Lease {
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
        lease
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

    /// Whether it is to be woken when something is published.
    fn rest(&self, rests: bool) {
        if let Some(seat) = &self.watched {
            seat.rest(rests);
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

/// Why a lease is left alone.
fn too_new(version: i64) -> Failure {
    let why = match version {
        SHARDED => "the group reads in shards: let this service read in shards too".to_owned(),
        _ => format!(
            "the group was read by a release that writes version {version} of its lease, and this one knows {VERSION} \
             and the next: update this service"
        ),
    };
    Failure::because(Trouble::Refused, why)
}
