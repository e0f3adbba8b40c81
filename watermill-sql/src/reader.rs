//! [`Reader`]: the background task of a subscription. It owns the lease, fetches rows and records
//! outcomes; everything it does is one short statement or transaction.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, Pool, pool::PoolConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use watermill_core::{
    delivery::Origin,
    error::{SettleError, SubscribeError, SubscribeErrorKind},
    metadata_keys,
    subscription::Health,
};

use crate::{
    SqlSubscriberConfig,
    dialect::Dialect,
    error::{Failure, Trouble},
    lease::{Claim, Claimed, Lease, Taken},
    ledger::Dead,
    marshaler::{Record, Row},
    settle::{Desk, refill_below},
    topic::Tables,
    transaction, wake,
};

/// How long a subscription that was dropped may take to record what it knows and give its lease back.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Reader<D: Dialect> {
    pub(crate) pool: Pool<D>,
    pub(crate) config: SqlSubscriberConfig,
    pub(crate) tables: Tables,
    pub(crate) dead_letters: Option<Tables>,
    /// Unique to this subscription.
    pub(crate) owner: String,
    pub(crate) desk: Arc<Desk>,
    pub(crate) origin: Origin,
}

/// How a subscription ended: `None` while it has not, then whether something could not be recorded.
pub(crate) type Ended = Option<Result<(), String>>;

/// What the task knows while it owns the lease.
struct Term {
    lease: Lease,
    renew_at: Instant,
    poll_at: Instant,
    poll_interval: Duration,
    /// Attempts that failed in a row, and until when to leave the database alone.
    failures: u32,
    rest_until: Option<Instant>,
    /// A row that cannot be read: how often it was looked at, and when to look again.
    held: Option<(i64, u32, Instant)>,
}

/// Why a term of ownership ended.
enum Over {
    Closing,
    Lost,
}

impl<D: Dialect> Reader<D> {
    /// Runs until the subscription is closed or dropped.
    pub(crate) async fn run(self, ended: watch::Sender<Ended>) {
        /// However the task ends, a panic or the end of the runtime included, nobody waits for it.
        struct End(Arc<Desk>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _end = End(self.desk.clone());
        let mut waker = wake::listen(self.tables.topic());
        let result = loop {
            let Some(taken) = self.own(&mut waker).await else { break Ok(()) };
            let mut term = self.begin(taken);
            match self.serve(&mut term, &mut waker).await {
                Over::Closing => break self.finish(&mut term).await,
                Over::Lost => self.lose(),
            }
        };
        self.desk.end();
        ended.send_replace(Some(result));
    }

    /// Waits for the lease; `None` when the subscription ends first.
    async fn own(&self, waker: &mut wake::Waker) -> Option<Taken> {
        let mut failures = 0;
        loop {
            let claim = Claim {
                tables: &self.tables,
                group: &self.config.group,
                owner: &self.owner,
                duration: self.config.lease,
                start: self.config.start,
            };
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
                Err(failure) => {
                    let wait = self.config.retry.delay(failures);
                    failures += 1;
                    self.trouble(failure, wait);
                    wait
                }
            };
            tokio::select! {
                () = self.desk.closing.cancelled() => return None,
                () = waker.woken() => {}
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    /// A claim that was interrupted may have succeeded nevertheless: take it, to give it back.
    async fn give_up(&self, claim: &Claim<'_>) -> Option<Taken> {
        match tokio::time::timeout(GOODBYE_MAX, self.claim(claim)).await {
            Ok(Ok(Claimed::Ours(taken))) => Some(taken),
            _ => None,
        }
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed, Failure> {
        let mut connection = self.connect().await?;
        D::claim(&mut connection, claim).await.map_err(Failure::of::<D>)
    }

    fn begin(&self, taken: Taken) -> Term {
        let now = Instant::now();
        let Taken { lease, progress, unclear_up_to } = taken;
        tracing::debug!(
            topic = self.tables.topic(),
            group = self.config.group,
            token = lease.token,
            position = lease.position,
            "the lease is ours"
        );
        let mut state = self.desk.lock();
        state.ledger.begin(lease.position, progress, unclear_up_to);
        state.health = Health::Healthy;
        drop(state);
        Term {
            lease,
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
            group = self.config.group,
            "the lease was lost to another reader, which gets what is outstanding"
        );
        let mut state = self.desk.lock();
        state.valid_until = None;
        state.ledger.lose(SettleError::lost);
        drop(state);
        self.origin.revoke(|_| true);
        self.degraded("the lease was lost".to_owned());
    }

    async fn serve(&self, term: &mut Term, waker: &mut wake::Waker) -> Over {
        loop {
            if self.desk.closing.is_cancelled() {
                return Over::Closing;
            }
            let now = Instant::now();
            if term.rest_until.is_none_or(|until| until <= now) {
                term.rest_until = None;
                match self.work(term, now).await {
                    Ok(true) => self.recovered(term),
                    Ok(false) => return Over::Lost,
                    Err(failure) => {
                        let wait = self.config.retry.delay(term.failures);
                        term.failures = term.failures.saturating_add(1);
                        term.rest_until = Some(Instant::now() + wait);
                        self.trouble(failure, wait);
                    }
                }
            }
            let until = self.next_thing(term);
            tokio::select! {
                () = self.desk.closing.cancelled() => {}
                () = self.desk.work.notified() => {}
                () = waker.woken() => {
                    term.poll_interval = self.config.poll_interval_min;
                    term.poll_at = Instant::now();
                }
                () = sleep_until(until) => {}
            }
        }
    }

    /// Does what is due; false when the lease is lost.
    async fn work(&self, term: &mut Term, now: Instant) -> Result<bool, Failure> {
        if now >= term.renew_at && !self.renew(term).await? {
            return Ok(false);
        }
        if self.record_at().is_some_and(|at| at <= now) && !self.record(term).await? {
            return Ok(false);
        }
        if self.wants_rows() && now >= term.poll_at && term.held.is_none_or(|(_, _, at)| at <= now) {
            self.fetch(term).await?;
        }
        if self.desk.lock().ledger.due().is_some_and(|due| due <= now) {
            self.desk.wake_reader();
        }
        Ok(true)
    }

    /// When there is something to do, if nothing happens before.
    fn next_thing(&self, term: &Term) -> Instant {
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
        match self.desk.lock().ledger.due() {
            Some(due) if due > Instant::now() => until.min(due),
            _ => until,
        }
    }

    /// When outcomes are to be recorded: at once if a batch is full or somebody waits.
    fn record_at(&self) -> Option<Instant> {
        let state = self.desk.lock();
        let (acks, since, awaited) = state.ledger.unsaved();
        let since = since?;
        if awaited || acks >= self.config.batch_size {
            Some(since)
        } else {
            Some(since + self.config.ack_interval)
        }
    }

    fn wants_rows(&self) -> bool {
        let state = self.desk.lock();
        let bound = self.config.max_ahead.max(state.ledger.window().size() + self.config.batch_size);
        !state.stopped
            && state.ledger.fresh() < refill_below(self.config.batch_size)
            && state.ledger.span() < bound
    }

    async fn renew(&self, term: &mut Term) -> Result<bool, Failure> {
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

    /// Records everything that is settled, with one statement when that is contiguous and alive.
    async fn record(&self, term: &mut Term) -> Result<bool, Failure> {
        let save = self.desk.lock().ledger.save();
        let recorded = self.write(&term.lease, save.position, save.progress.as_deref(), &save.dead).await;
        let mut state = self.desk.lock();
        match recorded {
            Ok(true) => {
                term.lease.position = save.position;
                state.ledger.saved(save);
                Ok(true)
            }
            // Its receipts are completed when the ledger is emptied.
            Ok(false) => {
                state.ledger.keep(save, Instant::now());
                Ok(false)
            }
            Err(failure) => {
                state.ledger.keep(save, Instant::now());
                Err(failure)
            }
        }
    }

    async fn write(
        &self,
        lease: &Lease,
        position: i64,
        progress: Option<&str>,
        dead: &[Dead],
    ) -> Result<bool, Failure> {
        let mut connection = self.connect().await?;
        if progress.is_none() && dead.is_empty() {
            return D::advance(&mut connection, lease, position, None).await.map_err(Failure::of::<D>);
        }
        let mut transaction = connection.begin().await.map_err(Failure::of::<D>)?;
        // First, because it compares: what follows is written by the owner of the lease.
        if !D::advance(&mut transaction, lease, position, progress).await.map_err(Failure::of::<D>)? {
            return Ok(false);
        }
        if let Some(tables) = &self.dead_letters
            && !dead.is_empty()
        {
            let records: Vec<_> = dead.iter().map(|dead| self.dead_letter(dead)).collect();
            transaction::insert_chunks::<D>(&mut transaction, tables, &records)
                .await
                .map_err(Failure::of::<D>)?;
        }
        transaction.commit().await.map_err(Failure::of::<D>)?;
        if let Some(tables) = self.dead_letters.as_ref().filter(|_| !dead.is_empty()) {
            wake::wake(tables.topic());
        }
        Ok(true)
    }

    fn dead_letter(&self, dead: &Dead) -> Record {
        let mut message = dead.message.clone();
        let metadata = message.metadata_mut();
        metadata.insert(metadata_keys::REASON_POISONED, &dead.reason);
        metadata.insert(metadata_keys::TOPIC_POISONED, self.tables.topic());
        metadata.insert(metadata_keys::SUBSCRIBER_POISONED, "sql");
        metadata.insert(metadata_keys::OFFSET_POISONED, dead.offset.to_string());
        metadata.insert(metadata_keys::ATTEMPTS_POISONED, dead.attempts.to_string());
        Record::of_row(message)
    }

    async fn fetch(&self, term: &mut Term) -> Result<(), Failure> {
        let after = self.desk.lock().ledger.read_up_to();
        let mut connection = self.connect().await?;
        let rows = D::fetch(&mut connection, &self.tables, after, self.config.batch_size)
            .await
            .map_err(Failure::of::<D>)?;
        drop(connection);
        let now = Instant::now();
        if rows.is_empty() {
            term.poll_at = now + term.poll_interval;
            term.poll_interval = (term.poll_interval * 2).min(self.config.poll_interval_max);
        } else {
            term.poll_interval = self.config.poll_interval_min;
            // A full batch has a next one.
            let pause = if rows.len() < self.config.batch_size { term.poll_interval } else { Duration::ZERO };
            term.poll_at = now + pause;
        }
        self.take_in(term, rows, now);
        self.desk.wake_reader();
        Ok(())
    }

    fn take_in(&self, term: &mut Term, rows: Vec<Row>, now: Instant) {
        let mut unreadable = Vec::new();
        let mut held = None;
        let mut state = self.desk.lock();
        for Row { offset, published_at, columns } in rows {
            match columns.decode() {
                Ok(message) => state.ledger.push(offset, message, published_at),
                Err(error) => {
                    let reason = error.to_string();
                    let kept = self.dead_letters.is_some();
                    unreadable.push((offset, error, kept));
                    if kept {
                        state.ledger.push_dead(offset, columns.remains(), reason, now);
                        continue;
                    }
                    let looks = match term.held {
                        Some((at, looks, _)) if at == offset => looks + 1,
                        _ => 0,
                    };
                    held = Some((offset, looks, now + self.config.retry.delay(looks)));
                    break;
                }
            }
        }
        drop(state);
        term.held = held;
        for (offset, error, kept) in unreadable {
            let fate = if kept {
                "it is moved to the dead-letter topic"
            } else {
                "the subscription holds before it"
            };
            let detail = format!("the row at offset {offset} cannot be read, {fate}");
            tracing::error!(topic = self.tables.topic(), group = self.config.group, %error, "{detail}");
            self.desk.report(
                SubscribeError::new(SubscribeErrorKind::Undecodable, self.tables.topic())
                    .because(detail)
                    .with_source(error),
            );
        }
    }

    /// Records what is settled and gives the lease back: the graceful end.
    async fn finish(&self, term: &mut Term) -> Result<(), String> {
        self.desk.stop_intake();
        self.desk.lock().ledger.give_back(Instant::now());
        self.origin.revoke(|_| true);
        let goodbye = async {
            let mut failures = 0;
            loop {
                match self.say_goodbye(term).await {
                    Ok(()) => return Ok(()),
                    // A second writer is no reason to forget acks; a database that is away is.
                    Err(failure) if failure.trouble == Trouble::Unavailable && failures < 3 => {
                        tokio::time::sleep(self.config.retry.delay(failures)).await;
                        failures += 1;
                    }
                    Err(failure) => return Err(failure.text()),
                }
            }
        };
        let result = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        wake::wake(self.tables.topic());
        result.unwrap_or_else(|_| Err(format!("the database did not answer within {GOODBYE_MAX:?}")))
    }

    async fn say_goodbye(&self, term: &mut Term) -> Result<(), Failure> {
        let unsaved = self.desk.lock().ledger.has_unsaved();
        if unsaved && !self.record(term).await? {
            return Err(Failure::because(
                Trouble::Refused,
                "the lease was lost, other readers get the messages",
            ));
        }
        let mut connection = self.connect().await?;
        D::release(&mut connection, &term.lease).await.map_err(Failure::of::<D>)
    }

    async fn connect(&self) -> Result<PoolConnection<D>, Failure> {
        self.pool.acquire().await.map_err(Failure::of::<D>)
    }

    fn recovered(&self, term: &mut Term) {
        if term.failures > 0 {
            term.failures = 0;
            tracing::info!(
                topic = self.tables.topic(),
                group = self.config.group,
                "the database answers again"
            );
        }
        let mut state = self.desk.lock();
        if state.health != Health::Healthy {
            state.health = Health::Healthy;
        }
    }

    fn degraded(&self, reason: String) {
        self.desk.lock().health = Health::Degraded { reason };
    }

    fn trouble(&self, failure: Failure, wait: Duration) {
        let reason = failure.text();
        tracing::warn!(topic = self.tables.topic(), group = self.config.group, reason, ?wait, "trying again");
        self.degraded(reason);
        self.desk.report(failure.subscribing(self.tables.topic()));
    }
}
