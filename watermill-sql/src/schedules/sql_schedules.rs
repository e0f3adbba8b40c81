//! [`SqlSchedules`]: fires schedules.

use std::{
    collections::BTreeSet,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use sqlx::Pool;
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::{Publisher, error::ConfigError};

use super::{Schedule, ScheduleError, dialect::StoredSchedule, pauses::Pauses};
use crate::{
    SqlDatabase, SqlPublisher, SqlPublisherConfig,
    connection::{Checked, Pooled, begin, within},
    error::{Failure, classify},
    inbox::Wrap,
    schema,
};

/// Publishes messages again and again, each [time](Schedule) once however many processes there are.
///
/// The next time of each schedule is a row of the table `_watermill_schedules`. Who finds it due moves it on, if it is still
/// as it was, and publishes in the same transaction: so a time fires once, and a process that was stopped in the middle,
/// or comes back from a long pause, fires nothing twice. What the transaction publishes to are topics of this
/// database, or with [`publish_through`](Self::publish_through) an outbox of any broker.
///
/// It works as a [`Plugin`](watermill_core::router::Plugin) of a router, or by [`fire_due`](Self::fire_due) of your own.
/// Times are by the database's clock. While nobody runs, times are [missed](super::Missed), and what becomes of them is the
/// schedule's to say. When a schedule has got another plan, the process that starts last sets it, and those that still
/// have the old one leave it alone.
///
/// ```
/// # async fn run(pool: sqlx::Pool<impl watermill_sql::SqlDatabase>) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use watermill_core::Router;
/// use watermill_sql::{Missed, Schedule, SqlSchedules};
///
/// let expiry = Schedule::every("expire-carts", Duration::from_secs(60), "carts.expire")
///     .missed(Missed::Skip { tolerance: Duration::from_secs(5) });
/// Router::new().plugin(SqlSchedules::new(pool, [expiry])?).run().await?;
/// # Ok(())
/// # }
/// ```
pub struct SqlSchedules<D: SqlDatabase> {
    shared: Arc<Shared<D>>,
    /// The plugin's, while a router runs.
    pub(super) task: Mutex<Option<AbortOnDropHandle<()>>>,
}

pub(super) struct Shared<D: SqlDatabase> {
    pool: Pool<D>,
    schedules: Vec<Schedule>,
    publisher: SqlPublisherConfig,
    wrap: Option<Arc<Wrap>>,
    pub(super) look_within: Duration,
    timeout: Duration,
    checked: Arc<Checked>,
    prepared: Arc<OnceCell<()>>,
}

/// What a look at the schedules has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FiredReport {
    /// How many messages were published.
    pub published: usize,
    /// After how long the next is due, if any schedule has a next time.
    pub next_in: Option<Duration>,
}

impl<D: SqlDatabase> SqlSchedules<D> {
    /// Schedules over `pool`. Nothing is sent before the first look.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names every problem: a name that is empty, too long or there twice, an interval of less than
    /// 10 ms, a topic without a name.
    pub fn new(pool: Pool<D>, schedules: impl IntoIterator<Item = Schedule>) -> Result<Self, ConfigError> {
        let schedules: Vec<_> = schedules.into_iter().collect();
        let names: BTreeSet<_> = schedules.iter().map(Schedule::name).collect();
        ConfigError::check("configure the schedules")
            .with(schedules.iter().flat_map(Schedule::problems))
            .unless(!schedules.is_empty(), "there are none")
            .unless(names.len() == schedules.len(), "two have the same name")
            .finish()?;
        let shared = Shared {
            pool,
            schedules,
            publisher: SqlPublisherConfig::default(),
            wrap: None,
            look_within: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            checked: Arc::default(),
            prepared: Arc::default(),
        };
        Ok(Self::with(shared))
    }

    fn with(shared: Shared<D>) -> Self {
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Sets how messages are written: the layout of topics, their payload column, whether missing tables are made, the table
    /// of schedules among them.
    #[must_use]
    pub fn publisher(self, config: SqlPublisherConfig) -> Self {
        Self::with(Shared { publisher: config, ..self.shared.parts() })
    }

    /// Puts a publisher around the one that writes into the transaction: a forwarder's, say, whose envelopes a relay brings
    /// to a broker. On MySQL its table has to be there, for a transaction cannot make one.
    #[must_use]
    pub fn publish_through<F>(self, wrap: F) -> Self
    where
        F: for<'p> Fn(&'p dyn Publisher) -> Box<dyn Publisher + 'p> + Send + Sync + 'static,
    {
        Self::with(Shared { wrap: Some(Arc::new(wrap)), ..self.shared.parts() })
    }

    /// After how long at the latest the plugin looks again, whatever it expects: 10 s by default. What another process has
    /// changed is known then.
    #[must_use]
    pub fn look_within(self, interval: Duration) -> Self {
        Self::with(Shared { look_within: interval.max(Duration::from_millis(10)), ..self.shared.parts() })
    }

    /// How long a look, or the firing of one schedule, may take: 10 s by default.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self::with(Shared { timeout, ..self.shared.parts() })
    }

    /// Fires what is due, each schedule in a transaction of its own.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] of the first schedule that could not be fired; the others were tried all the same, and what is due
    /// stays due.
    ///
    /// # Cancel safety
    ///
    /// A schedule has fired as a whole or not at all.
    pub async fn fire_due(&self) -> Result<FiredReport, ScheduleError> {
        let (report, failed) = self.shared.fire_but(&mut Pauses::default()).await?;
        failed.into_iter().next().map_or(Ok(report), Err)
    }

    /// Removes a schedule from the database, for good: for one that no process has any more. False when there was none.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`].
    pub async fn remove(&self, name: &str) -> Result<bool, ScheduleError> {
        let shared = &self.shared;
        let removed = within(shared.timeout, async {
            shared.prepare().await?;
            let mut pooled = Pooled::clean(&shared.pool).await?;
            let removed = D::remove_schedule(pooled.get(), name).await.map_err(classify::<D>)?;
            pooled.settled();
            Ok(removed)
        });
        removed.await.map_err(|failure| ScheduleError::new(failure).of(name))
    }

    pub(super) fn shared(&self) -> &Arc<Shared<D>> {
        &self.shared
    }
}

impl<D: SqlDatabase> Shared<D> {
    fn parts(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            schedules: self.schedules.clone(),
            publisher: self.publisher.clone(),
            wrap: self.wrap.clone(),
            look_within: self.look_within,
            timeout: self.timeout,
            checked: self.checked.clone(),
            prepared: self.prepared.clone(),
        }
    }

    /// Fires what is due, but for what has failed and waits. Says what has failed now.
    pub(super) async fn fire_but(
        &self,
        pauses: &mut Pauses,
    ) -> Result<(FiredReport, Vec<ScheduleError>), ScheduleError> {
        let looked = within(self.timeout, self.look()).await;
        let looked_at = Instant::now();
        let (now_ms, stored) = looked.map_err(ScheduleError::new)?;
        let (mut report, mut failed) = (FiredReport::default(), Vec::new());
        for schedule in &self.schedules {
            let plan = schedule.plan.to_string();
            let row = stored.iter().find(|row| row.name == *schedule.name && row.plan == plan);
            // Removed, or another process has given it another plan: it is theirs.
            let Some(row) = row else { continue };
            let next_in = if row.next_ms > now_ms {
                until(row.next_ms, now_ms).saturating_sub(looked_at.elapsed())
            } else if let Some(remaining) = pauses.remaining(&schedule.name) {
                remaining
            } else {
                let fired = AssertUnwindSafe(self.fire(schedule, row, now_ms)).catch_unwind().await;
                match fired.unwrap_or_else(|panic| Err(ScheduleError::panicked(&*panic))) {
                    Ok((published, next_ms)) => {
                        pauses.succeeded(&schedule.name);
                        report.published += published;
                        until(next_ms, now_ms).saturating_sub(looked_at.elapsed())
                    }
                    Err(error) => {
                        failed.push(error.of(&schedule.name));
                        pauses.failed(&schedule.name)
                    }
                }
            };
            report.next_in = Some(report.next_in.map_or(next_in, |earlier| earlier.min(next_in)));
        }
        Ok((report, failed))
    }

    async fn look(&self) -> Result<(i64, Vec<StoredSchedule>), Failure> {
        self.prepare().await?;
        let mut pooled = Pooled::clean(&self.pool).await?;
        let stored = D::schedules(pooled.get()).await.map_err(classify::<D>)?;
        let now_ms = D::now_ms(pooled.get()).await.map_err(classify::<D>)?;
        pooled.settled();
        Ok((now_ms, stored))
    }

    /// Moves the schedule on and publishes, both or neither. Says how many messages there were, and the next time.
    async fn fire(
        &self,
        schedule: &Schedule,
        row: &StoredSchedule,
        now_ms: i64,
    ) -> Result<(usize, i64), ScheduleError> {
        let (messages, next_ms) = schedule.due(row.next_ms, now_ms);
        // A pattern that has ended stays where nobody gets to.
        let next_ms = next_ms.unwrap_or(i64::MAX);
        let published = messages.len();
        let mut refused = None;
        let fired = within(self.timeout, async {
            let mut pooled = Pooled::clean(&self.pool).await?;
            let mut transaction = begin::<D>(pooled.get(), self.timeout).await.map_err(classify::<D>)?;
            let ours = D::advance_schedule(&mut transaction, row, next_ms).await.map_err(classify::<D>)?;
            if ours && let Err(error) = self.publish(&mut transaction, &schedule.topic, messages).await {
                refused = Some(error);
            }
            if ours && refused.is_none() {
                transaction.commit().await.map_err(classify::<D>)?;
            } else {
                transaction.rollback().await.map_err(classify::<D>)?;
            }
            D::end(pooled.get()).await.map_err(classify::<D>)?;
            pooled.settled();
            Ok(ours)
        });
        let fired = fired.await.map_err(ScheduleError::new)?;
        match refused {
            Some(error) => Err(ScheduleError::publishing(error)),
            None => Ok((if fired { published } else { 0 }, next_ms)),
        }
    }

    async fn publish(
        &self,
        transaction: &mut sqlx::Transaction<'_, D>,
        topic: &str,
        messages: Vec<watermill_core::Message>,
    ) -> Result<(), watermill_core::error::PublishError> {
        let publisher = SqlPublisher::in_transaction(transaction).config(self.publisher.clone());
        match &self.wrap {
            Some(wrap) => wrap(&publisher).publish(topic, messages).await,
            None => publisher.publish(topic, messages).await,
        }
    }

    /// Sees to the table, and to our rows in it, once.
    async fn prepare(&self) -> Result<(), Failure> {
        let prepare = async || {
            self.checked.pool(&self.pool).await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            D::check_server(pooled.get()).await?;
            schema::ensure_schedules::<D>(pooled.get(), self.publisher.initialize_schema).await?;
            let now_ms = D::now_ms(pooled.get()).await.map_err(classify::<D>)?;
            for schedule in &self.schedules {
                let row = StoredSchedule {
                    name: schedule.name.to_string(),
                    plan: schedule.plan.to_string(),
                    next_ms: schedule.plan.next(now_ms).unwrap_or(i64::MAX),
                };
                D::add_schedule(pooled.get(), &row).await.map_err(classify::<D>)?;
                D::change_schedule(pooled.get(), &row).await.map_err(classify::<D>)?;
            }
            pooled.settled();
            drop(pooled);
            self.make_topics().await
        };
        self.prepared.get_or_try_init(prepare).await.copied()
    }

    /// A transaction cannot make a table everywhere.
    async fn make_topics(&self) -> Result<(), Failure> {
        if D::CREATES_IN_TRANSACTION || self.wrap.is_some() || !self.publisher.initialize_schema {
            return Ok(());
        }
        let publisher = SqlPublisher::new(self.pool.clone(), self.publisher.clone())
            .map_err(|error| Failure::because(crate::error::Trouble::Config, error.to_string()))?;
        for schedule in &self.schedules {
            publisher.initialize(&schedule.topic).await.map_err(|error| {
                Failure::because(crate::error::Trouble::Topic, watermill_core::error::chain(&error))
            })?;
        }
        Ok(())
    }
}

fn until(time_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(time_ms.saturating_sub(now_ms).max(0).unsigned_abs())
}

impl<D: SqlDatabase> fmt::Debug for SqlSchedules<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSchedules")
            .field("database", &D::NAME)
            .field("schedules", &self.shared.schedules)
            .finish_non_exhaustive()
    }
}
