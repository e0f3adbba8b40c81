//! [`SqlSubscriber`]: makes subscriptions over a pool.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription,
    backend::{Registry, Shared, SharedOptions},
    error::{ConfigError, SubscribeError},
    subscriber::{Ordering, Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use super::{
    HeldBack, SqlSubscriberConfig, last_row,
    ledger::{Limits, LogLedger},
    reader::Reader,
    renewals::Renewals,
};
use crate::{
    Layout, SqlDatabase,
    connection::{PREPARE_MAX, Pooled, Reserve, within},
    error::{Failure, Trouble, classify},
    schema,
    shards::{self, Member, Plan, Slot, SqlShards},
    source::{self, Use},
    topic::Tables,
    watch::{self, Wanted, Watched},
};

/// Reads topics for a consumer group, over a pool of connections.
///
/// Of all subscriptions to a topic for the same group, in all processes, one reads and the others
/// stand by. A subscription needs one connection of the pool at a time, and none while nothing
/// happens: busy, it keeps it from one statement to the next while the pool has others to lend. Except on
/// SQLite there is one more for all subscriptions that own a lease, beside the pool's, by which others see
/// that the owner lives. With [`watch`](SqlSubscriberConfig::watch) there is one more connection, which is not
/// the pool's, for all subscriptions over a pool.
pub struct SqlSubscriber<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlSubscriberConfig,
    open: Registry<Shared<LogLedger>>,
    /// Shared with the subscribers for other groups.
    reserve: Arc<Reserve<D>>,
    renewals: Arc<Renewals>,
    /// The shard that it reads, with those of the process that read the others.
    shard: Option<(Arc<Member>, u32)>,
}

impl<D: SqlDatabase> SqlSubscriber<D> {
    /// A subscriber over `pool`. Nothing is sent before the first subscription.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlSubscriberConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let config = config.group_or(D::DEFAULT_GROUP);
        let reserve = Arc::new(Reserve::new(pool.clone()));
        Ok(Self { pool, config, open: Registry::default(), reserve, renewals: Arc::default(), shard: None })
    }

    /// Sees to everything that is needed. Returns the tables of the topic, over those of a source, and what to watch.
    async fn prepare(
        &self,
        tables: Tables,
        dead_letters: Option<&Tables>,
    ) -> Result<(Tables, Option<Watched>), Failure> {
        let create = self.config.initialize_schema;
        let payload = self.config.payload_column;
        within(PREPARE_MAX, async {
            self.reserve.check_pool().await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            let connection = pooled.get();
            D::check_server(connection).await?;
            let tables = match &self.config.source {
                None => tables,
                Some(source) => source::tables_over::<D>(connection, tables, source, Use::Log).await?,
            };
            schema::ensure_log::<D>(connection, &tables, payload, create).await?;
            if let Some(dead_letters) = dead_letters {
                schema::ensure_messages::<D>(connection, dead_letters, Layout::Log, payload, create).await?;
            }
            match &self.shard {
                Some((member, _)) => {
                    let (_, config, cursor) =
                        shards::prepare::<D>(connection, &tables, &self.config, member).await?;
                    last_row::check::<D>(connection, &tables, &config, &cursor).await?;
                }
                None => {
                    self.refuse_shards(connection, &tables).await?;
                    D::create_group(connection, &tables, &self.config).await.map_err(classify::<D>)?;
                    let cursor = D::open_cursor(connection, &tables, &self.config).await?;
                    last_row::check::<D>(connection, &tables, &self.config, &cursor).await?;
                }
            }
            let watched = watch::find::<D>(connection, &tables).await?;
            pooled.settled();
            Ok((tables, watched))
        })
        .await
    }

    /// Which of this subscriber's subscriptions wait for the transactions of others, and for whose: a gauge.
    ///
    /// What lasts for more than a second is in the log too, and in the subscription's health.
    pub fn held_back(&self) -> Vec<HeldBack> {
        self.open.sources().iter().filter_map(|shared| shared.lock().ledger.held_back.clone()).collect()
    }

    /// A group that reads in shards has no other readers: they would have everything again.
    async fn refuse_shards(&self, connection: &mut D::Connection, tables: &Tables) -> Result<(), Failure> {
        let group = self.config.group_name();
        if !schema::has_shards::<D>(connection).await? {
            return Ok(());
        }
        match shards::stored::<D>(connection, tables.topic(), group).await {
            Ok(None) => Ok(()),
            // Who may not look is refused when it claims the lease.
            Err(failure) if failure.trouble() == Trouble::Refused => Ok(()),
            Err(failure) => Err(failure),
            Ok(Some((plan, _))) => {
                let why = format!(
                    "the group {group:?} reads in shards, {} of them: let this service read in shards too, in one at least",
                    plan.wanted
                );
                Err(Failure::because(Trouble::Refused, why))
            }
        }
    }

    /// The group that its subscriptions read for.
    pub(crate) fn group(&self) -> &str {
        self.config.group_name()
    }

    /// The plan of the shards of a topic, which is made where there is none.
    pub(crate) async fn plan_of(&self, topic: &str, member: &Arc<Member>) -> Result<Plan, Failure> {
        let (tables, _) = self.tables(topic)?;
        let stored = within(PREPARE_MAX, async {
            let mut pooled = Pooled::clean(&self.pool).await?;
            let stored = match schema::has_shards::<D>(pooled.get()).await? {
                true => shards::stored::<D>(pooled.get(), tables.topic(), &member.base).await?,
                false => None,
            };
            pooled.settled();
            Ok(stored)
        });
        if let Some((plan, _)) = stored.await? {
            return Ok(plan);
        }
        let (tables, dead_letters) = self.tables(topic)?;
        let of_any = self.of_shard(member, 0);
        of_any.prepare(tables, dead_letters.as_ref()).await?;
        Ok(Plan::new(member.count))
    }

    /// The subscriber of a shard. Closing either closes the subscriptions of both.
    pub(crate) fn of_shard(&self, member: &Arc<Member>, number: u32) -> Self {
        Self { shard: Some((Arc::clone(member), number)), ..self.same(self.config.clone()) }
    }

    /// The same, with other options.
    fn same(&self, config: SqlSubscriberConfig) -> Self {
        Self {
            pool: self.pool.clone(),
            config,
            open: self.open.clone(),
            reserve: self.reserve.clone(),
            renewals: self.renewals.clone(),
            shard: self.shard.clone(),
        }
    }

    fn tables(&self, topic: &str) -> Result<(Tables, Option<Tables>), Failure> {
        let tables = |topic| {
            let tables = Tables::named::<D>(topic, self.config.schema_qualified);
            tables.map_err(|why| Failure::because(Trouble::Topic, why))
        };
        let dead = self.config.dead_letter_topic.as_deref().map(tables).transpose()?;
        let tables = tables(topic)?;
        // What is rejected by a reader of the dead letters themselves must not come back to it.
        let dead = dead.filter(|dead| !dead.topic().eq_ignore_ascii_case(tables.topic()));
        source::check_topic(self.config.source.as_ref(), topic)?;
        Ok((tables, dead))
    }
}

#[async_trait]
impl<D: SqlDatabase> Subscriber for SqlSubscriber<D> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let (tables, dead_letters) = self.tables(topic).map_err(|failure| failure.subscribing(topic))?;
        let prepared = self.prepare(tables, dead_letters.as_ref()).await;
        let (tables, watched) = prepared.map_err(|failure| failure.subscribing(topic))?;

        let SqlSubscriberConfig { batch_size, batch_bytes, max_ahead, ack_interval, .. } = self.config;
        let ledger = LogLedger::new(Limits {
            batch_size,
            batch_bytes,
            max_ahead,
            dead_letters: dead_letters.is_some(),
            tells_passed: tables.mapping().is_some_and(|mapping| mapping.pass.is_some()),
        });
        let options = SharedOptions::default().record_batch(batch_size).record_interval(ack_interval);
        let group = Some(self.config.group_name()).filter(|group| !group.is_empty());
        let shared = Arc::new(Shared::new(topic, group, ledger, options));
        {
            let mut state = shared.lock();
            state.disown();
            state.degraded("waiting for the lease");
        }
        let seat = watched.filter(|_| self.config.watch).and_then(|watched| {
            let SqlSubscriberConfig { watch_interval: interval, retry, .. } = self.config;
            let (topic, trouble) = (tables.topic().to_owned(), watch::told_by_status(&shared));
            let wanted = Wanted { topic, watched, interval, due_interval: None, retry, trouble };
            watch::watch(&self.pool, wanted)
        });
        let subscription = self.open.start("sql", shared.clone(), |shared, origin| {
            let slot = self.shard.clone().map(|(member, number)| Slot::new(member, number));
            let reader = Reader {
                pool: self.pool.clone(),
                reserve: self.reserve.clone(),
                renewals: self.renewals.clone(),
                config: self.config.clone(),
                tables,
                dead_letters,
                owner: slot.as_ref().map_or_else(|| Uuid::now_v7().to_string(), Slot::owner),
                shared,
                origin,
                watched: seat,
                slot,
            };
            reader.run()
        })?;
        // Dropped meanwhile, the subscription ends.
        shared.started().await;
        Ok(subscription)
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        let initialized = async {
            let (tables, dead_letters) = self.tables(topic)?;
            self.prepare(tables, dead_letters.as_ref()).await.map(drop)
        };
        initialized.await.map_err(|failure| failure.subscribing(topic))
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        let subscriber = Self::new(self.pool.clone(), config)?;
        Ok(Arc::new(Self { reserve: self.reserve.clone(), renewals: self.renewals.clone(), ..subscriber }))
    }

    /// `None` where nothing may be created: a table that is missing would keep it from subscribing.
    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        let config = self.config.clone().dead_letter_topic(topic);
        let subscriber =
            Self::new(self.pool.clone(), config).ok().filter(|it| it.config.initialize_schema)?;
        Some(Arc::new(Self {
            open: self.open.clone(),
            reserve: self.reserve.clone(),
            renewals: self.renewals.clone(),
            shard: self.shard.clone(),
            ..subscriber
        }))
    }

    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let unsharded = Self { shard: None, ..self.same(self.config.clone()) };
        Some(Arc::new(SqlShards::new(unsharded, topic, sharding)))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("sql")
            .groups(true)
            .persistent(true)
            .ordering(Ordering::Total)
            .attempts(true)
            .nack_delay(true)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlSubscriber<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSubscriber")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
