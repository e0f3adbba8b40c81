//! [`SqlQueueSubscriber`]: makes subscriptions to queues.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicUsize},
};

use async_trait::async_trait;
use sqlx::Pool;
use tokio::time::Instant;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription,
    backend::{Registry, Shared, SharedOptions},
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use super::{Claims, OnAck, Queue, SqlQueueSubscriberConfig, reader::QueueReader};
use crate::{
    Layout, SqlDatabase,
    connection::{PREPARE_MAX, Pooled, Reserve, within},
    error::{Failure, Trouble},
    schema::{self, Found},
    source::{self, Use},
    topic::Tables,
    watch::{self, Wanted, Watched},
};

/// Works on topics of the queue layout, over a pool of connections: each message goes to one of all
/// subscriptions, in all processes, and is deleted or marked when it is acked.
///
/// There are no groups, and no order unless [`ordered_by_key`](SqlQueueSubscriberConfig::ordered_by_key). A subscription needs up to two connections of the pool at a time,
/// and none while nothing happens: busy, it keeps them from one statement to the next while the pool has
/// others to lend. With [`watch`](SqlQueueSubscriberConfig::watch) there is one more connection, which is not the
/// pool's, for all subscriptions over a pool.
///
/// Publish with [`SqlPublisherConfig::layout`](crate::SqlPublisherConfig::layout) set to [`Layout::Queue`].
pub struct SqlQueueSubscriber<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlQueueSubscriberConfig,
    open: Registry<Shared<Claims>>,
    reserve: Arc<Reserve<D>>,
}

/// What there must be before anything is claimed.
struct Prepared {
    tables: Tables,
    dead_letters: Option<(Tables, Found)>,
    /// What to watch.
    watched: Option<Watched>,
}

impl<D: SqlDatabase> SqlQueueSubscriber<D> {
    /// A subscriber over `pool`. Nothing is sent before the first subscription.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlQueueSubscriberConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlQueueSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let reserve = Arc::new(Reserve::new(pool.clone()));
        Ok(Self { pool, config, open: Registry::default(), reserve })
    }

    async fn prepare(&self, topic: &str) -> Result<Prepared, Failure> {
        let tables = |topic| {
            let tables = Tables::named::<D>(topic, self.config.schema_qualified);
            tables.map_err(|why| Failure::because(Trouble::Topic, why))
        };
        let dead = self.config.dead_letter_topic.as_deref().map(tables).transpose()?;
        let mut tables = tables(topic)?;
        // What is rejected by a worker on the dead letters themselves must not come back to it.
        let dead = dead.filter(|dead| !dead.topic().eq_ignore_ascii_case(tables.topic()));
        source::check_topic(self.config.source.as_ref(), topic)?;

        let SqlQueueSubscriberConfig { payload_column: payload, initialize_schema: create, .. } = self.config;
        if self.config.source.is_none() {
            self.ensure_queue(&tables).await?;
        }
        within(PREPARE_MAX, async {
            self.reserve.check_pool().await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            let connection = pooled.get();
            D::check_server(connection).await?;
            if let Some(source) = &self.config.source {
                tables = source::tables_over::<D>(connection, tables, source, Use::Queue).await?;
                source::ensure_claims::<D>(connection, &tables, create).await?;
            }
            let dead_letters = match dead {
                Some(dead) => {
                    let found =
                        schema::ensure_messages::<D>(connection, &dead, Layout::Queue, payload, create)
                            .await?;
                    Some((dead, found))
                }
                None => None,
            };
            D::check_queue(connection, &tables).await?;
            let watched = watch::find::<D>(connection, &tables).await?;
            pooled.settled();
            Ok(Prepared { tables, dead_letters, watched })
        })
        .await
    }

    /// Sees to the table of a queue. To look at it takes moments, and to change it as long as it is large.
    async fn ensure_queue(&self, tables: &Tables) -> Result<(), Failure> {
        let SqlQueueSubscriberConfig {
            payload_column: payload,
            initialize_schema: create,
            ordered_by_key: ordered,
            schema_timeout,
            ..
        } = self.config;
        let lacks = within(PREPARE_MAX, async {
            self.reserve.check_pool().await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            D::check_server(pooled.get()).await?;
            let lacks = schema::ensure_queue::<D>(pooled.get(), tables, payload, ordered, create).await?;
            pooled.settled();
            Ok(lacks)
        })
        .await?;
        if !lacks.anything() {
            return Ok(());
        }
        within(schema_timeout, async {
            let mut pooled = Pooled::clean(&self.pool).await?;
            schema::change_queue::<D>(pooled.get(), tables, lacks).await?;
            pooled.settled();
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl<D: SqlDatabase> Subscriber for SqlQueueSubscriber<D> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let prepared = self.prepare(topic).await.map_err(|failure| failure.subscribing(topic))?;
        let Prepared { tables, dead_letters, watched } = prepared;

        let SqlQueueSubscriberConfig { batch_size, ack_interval, ordered_by_key: ordered, .. } = self.config;
        let options = SharedOptions::default().record_batch(batch_size).record_interval(ack_interval);
        // What is done stays among our claims as long as its row stays where it is.
        let on_ack = match tables.mapping() {
            None => self.config.on_ack,
            Some(mapping) if mapping.pass.is_none() => OnAck::Mark,
            Some(_) => OnAck::Delete,
        };
        let shared = Arc::new(Shared::new(
            topic,
            None,
            Claims::new(ordered, dead_letters.is_some(), self.config.batch_bytes),
            options,
        ));
        shared.lock().disown();
        let seat = watched.filter(|_| self.config.watch).and_then(|watched| {
            let SqlQueueSubscriberConfig { watch_interval: interval, poll_interval_max, retry, .. } =
                self.config;
            let due_interval = Some(poll_interval_max);
            let (topic, trouble) = (tables.topic().to_owned(), watch::told_by_status(&shared));
            let wanted = Wanted { topic, watched, interval, due_interval, retry, trouble };
            watch::watch(&self.pool, wanted)
        });
        let subscription = self.open.start("sql", shared.clone(), |shared, origin| {
            let queue = Queue {
                tables,
                owner: format!("{} {}", Uuid::now_v7(), self.config.visibility_timeout.as_millis()),
                visibility_timeout: self.config.visibility_timeout,
                on_ack,
                ordered,
            };
            shared.lock().ledger.acks_join(Arc::new(queue.clone()));
            let reader = QueueReader {
                pool: self.pool.clone(),
                reserve: self.reserve.clone(),
                config: self.config.clone(),
                queue,
                dead_letters,
                shared,
                origin,
                kept: Mutex::default(),
                turns: Mutex::default(),
                end_claims_at: Mutex::new(Instant::now()),
                fitting: AtomicUsize::new(batch_size),
                watched: seat,
            };
            reader.run()
        })?;
        // Dropped meanwhile, the subscription ends.
        shared.started().await;
        Ok(subscription)
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.prepare(topic).await.map(drop).map_err(|failure| failure.subscribing(topic))
    }

    /// A queue has no groups: each message goes to one subscription.
    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "")
            .because("a queue has no consumer groups: use Layout::Log and SqlSubscriber"))
    }

    /// `None` where nothing may be created: a table that is missing would keep it from subscribing.
    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        let config = self.config.clone().dead_letter_topic(topic);
        let subscriber =
            Self::new(self.pool.clone(), config).ok().filter(|it| it.config.initialize_schema)?;
        Some(Arc::new(Self { open: self.open.clone(), reserve: self.reserve.clone(), ..subscriber }))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        let ordering = if self.config.ordered_by_key { Ordering::Scoped } else { Ordering::None };
        SubscriberCapabilities::new("sql")
            .persistent(true)
            .ordering(ordering)
            .attempts(true)
            .nack_delay(true)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlQueueSubscriber<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlQueueSubscriber")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
