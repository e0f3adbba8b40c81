//! [`SqlSubscriber`]: makes subscriptions over a pool.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription,
    delivery::Origin,
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    ConfigError, HeldBack, Layout, SqlDatabase, SqlPublisherConfig, SqlSubscriberConfig,
    ear::SharedEar,
    error::{Failure, Trouble},
    ledger::Ledger,
    reader::Reader,
    schema,
    settle::{Desk, Settler},
    subscription::Subscriptions,
    topic::Tables,
};

/// Reads topics for a consumer group, over a pool of connections.
///
/// Of all subscriptions to a topic for the same group, in all processes, one reads and the others
/// stand by. A subscription needs one connection of the pool at a time, and none while nothing
/// happens: busy, it keeps it from one statement to the next while the pool has others to lend. With [`listen`](SqlSubscriberConfig::listen) there is one more connection on PostgreSQL, which
/// is not the pool's, while there are subscriptions of this subscriber or of those that
/// [`in_group`](Subscriber::in_group) made of it.
pub struct SqlSubscriber<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlSubscriberConfig,
    open: Subscriptions<Ledger>,
    /// Shared with the subscribers for other groups.
    ear: SharedEar,
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
        Ok(Self { pool, config, open: Subscriptions::default(), ear: SharedEar::default() })
    }

    async fn prepare(&self, tables: &Tables, dead_letters: Option<&Tables>) -> Result<(), Failure> {
        let create = self.config.initialize_schema;
        let mut connection = self.pool.acquire().await.map_err(Failure::of::<D>)?;
        D::check_server(&mut connection).await?;
        let payload = self.config.payload_column;
        schema::ensure_log::<D>(&mut connection, tables, payload, create).await?;
        if let Some(dead_letters) = dead_letters {
            let config = SqlPublisherConfig::for_table(Layout::Log, payload);
            schema::ensure_messages::<D>(&mut connection, dead_letters, &config, create).await?;
        }
        D::create_group(&mut connection, tables, &self.config).await.map_err(Failure::of::<D>)?;
        D::open_cursor(&mut connection, tables, &self.config).await.map(drop)
    }

    /// Which of this subscriber's subscriptions wait for the transactions of others, and for whose: a gauge.
    ///
    /// What lasts for more than a second is in the log too, and in the subscription's health.
    pub fn held_back(&self) -> Vec<HeldBack> {
        self.open.each(|desk| desk.lock().held_back.clone())
    }

    fn tables(&self, topic: &str) -> Result<(Tables, Option<Tables>), Failure> {
        let tables = |topic| Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why));
        // What is rejected by a reader of the dead letters themselves must not come back to it.
        let dead = self.config.dead_letter_topic.as_deref().filter(|dead| !dead.eq_ignore_ascii_case(topic));
        Ok((tables(topic)?, dead.map(tables).transpose()?))
    }
}

#[async_trait]
impl<D: SqlDatabase> Subscriber for SqlSubscriber<D> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let (tables, dead_letters) = self.tables(topic).map_err(|failure| failure.subscribing(topic))?;
        self.prepare(&tables, dead_letters.as_ref()).await.map_err(|failure| failure.subscribing(topic))?;

        let SqlSubscriberConfig { batch_size, ack_interval, .. } = self.config;
        let desk = Arc::new(Desk::new(batch_size, ack_interval, dead_letters.is_some()));
        let group = Some(self.config.group_name()).filter(|group| !group.is_empty());
        let origin = Origin::builder("sql", topic).group(group).build(Settler(desk.clone()));
        let reader = Reader {
            pool: self.pool.clone(),
            config: self.config.clone(),
            tables,
            dead_letters,
            owner: Uuid::now_v7().to_string(),
            desk: desk.clone(),
            origin: origin.clone(),
        };
        let (handle, ended) = self.open.add(&desk, topic, group)?;
        let ear = match self.config.listen {
            true => self.ear.get(&self.pool, self.config.retry),
            false => None,
        };
        tokio::spawn(async move {
            reader.run(ended).await;
            drop(ear);
        });
        Ok(handle.subscription(origin).await)
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        let initialized = async {
            let (tables, dead_letters) = self.tables(topic)?;
            self.prepare(&tables, dead_letters.as_ref()).await
        };
        initialized.await.map_err(|failure| failure.subscribing(topic))
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        let subscriber = Self::new(self.pool.clone(), config)
            .map_err(|error| SubscribeError::new(SubscribeErrorKind::Config, "").with_source(error))?;
        Ok(Arc::new(Self { ear: self.ear.clone(), ..subscriber }))
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
