//! [`SqlPublisher`]: publishes over a pool.

use std::{fmt, ops::DerefMut, sync::Arc};

use async_trait::async_trait;
use sqlx::{Pool, Transaction};
use tokio::{sync::Mutex, task::unconstrained};
use watermill_core::{
    Message, Publisher,
    backend::Calls,
    error::{ConfigError, PublishError, SubscribeError},
    publisher::PublisherCapabilities,
};

use super::{
    ConnectionPublisher, Packet, SqlPublisherConfig,
    insert::{self, Batch, Over},
};
use crate::{
    Layout, SqlDatabase,
    connection::{Checked, FORGOTTEN, Pooled, Spares, within},
    error::{Failure, Trouble, classify},
    schema,
    topic::Tables,
    wake,
};

/// Publishes into tables, over a pool of connections or, with
/// [`in_transaction`](Self::in_transaction), as part of the caller's transaction.
///
/// Clones share the pool and are closed together. Over a pool a call is one statement, or one
/// transaction when it has very many messages: all of it is accepted or none.
pub struct SqlPublisher<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlPublisherConfig,
    shared: Arc<Shared<D>>,
}

struct Shared<D: SqlDatabase> {
    calls: Calls,
    spares: Spares<D>,
    /// A fair queue in front of a database that has one writer: calls are written in the order of their
    /// first polls, and do not wear out the busy timeout against one another.
    writing: Mutex<()>,
    packet: Packet,
    checked: Checked,
}

impl<D: SqlDatabase> SqlPublisher<D> {
    /// A publisher over `pool`. Nothing is sent before the first publish.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlPublisherConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let spares = Spares::new(pool.clone());
        let shared = Shared {
            calls: Calls::default(),
            spares,
            writing: Mutex::default(),
            packet: Packet::default(),
            checked: Checked::default(),
        };
        Ok(Self { pool, config, shared: Arc::new(shared) })
    }

    /// A publisher that works inside `transaction`: what it publishes is there after the commit and
    /// not before, and never after a rollback. Wrap it like any other publisher.
    ///
    /// It uses the default [`SqlPublisherConfig`]; see [`ConnectionPublisher::config`].
    pub fn in_transaction<'t>(
        transaction: &'t mut Transaction<'_, D>,
    ) -> ConnectionPublisher<D, &'t mut D::Connection> {
        ConnectionPublisher::new(&mut **transaction)
    }

    /// A publisher over one connection, in a transaction or not.
    pub fn on_connection(connection: &mut D::Connection) -> ConnectionPublisher<D, &mut D::Connection> {
        ConnectionPublisher::new(connection)
    }

    /// A publisher that owns what it works over: a transaction, a connection of a pool, a guard that somebody else
    /// shares. [`ConnectionPublisher::into_inner`] gives it back.
    pub fn owning<C>(connection: C) -> ConnectionPublisher<D, C>
    where
        C: DerefMut<Target = D::Connection> + Send,
    {
        ConnectionPublisher::new(connection)
    }

    /// Creates the table of a topic unless it exists. May be called any number of times, by many
    /// processes at once.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] of kind `Topic` for a topic that makes no table name and for a table that is
    /// not Watermill's, `Unavailable` and `Refused` as the database says.
    pub async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        let initialized = async {
            let tables = Tables::named::<D>(topic, self.config.schema_qualified);
            let tables = tables.map_err(|why| Failure::because(Trouble::Topic, why))?;
            self.shared.checked.pool(&self.pool).await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            let ensured = schema::ensure_messages::<D>(
                pooled.get(),
                &tables,
                self.config.layout,
                self.config.payload_column,
                true,
            )
            .await;
            pooled.settled();
            ensured.map(drop)
        };
        let initialized = within(self.config.timeout, initialized).await;
        initialized.map_err(|failure| failure.subscribing(topic))
    }
}

#[async_trait]
impl<D: SqlDatabase> Publisher for SqlPublisher<D> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.shared.calls.begin(topic, &messages)? else { return Ok(()) };
        let batch = Batch::new::<D>(topic, messages, &self.config)?;
        {
            let _turn = match D::ONE_WRITER {
                // The place in the queue is taken by the first poll, whatever is left of the task's budget.
                true => Some(unconstrained(self.shared.writing.lock()).await),
                false => None,
            };
            let inserting = async {
                self.shared.checked.pool(&self.pool).await?;
                self.insert(&batch).await
            };
            let inserting = within(self.config.timeout, inserting);
            inserting.await.map_err(|failure| failure.publishing(topic))?;
        }
        wake::wake(batch.tables.topic());
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.shared.calls.close().await;
        self.shared.spares.clear();
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("sql")
            .keeps_order(D::ONE_WRITER)
            .atomic(true)
            .delays(self.config.layout == Layout::Queue)
    }
}

impl<D: SqlDatabase> SqlPublisher<D> {
    /// Over the connection of the call before, if that was a moment ago, and otherwise over one of the pool: there the
    /// application may have left a transaction open, which the answer tells, or a question before several statements.
    async fn insert(&self, batch: &Batch) -> Result<(), Failure> {
        let Self { pool, config, shared } = self;
        let packet = &shared.packet;
        let is_one_statement = batch.is_one_statement::<D>(packet);
        let (mut pooled, mut is_clean) = match shared.spares.take() {
            Some(spare) => (spare, true),
            None if is_one_statement => (Pooled::of(pool).await?, false),
            None => (Pooled::clean(pool).await?, true),
        };
        // What is refused here was not sent, and the connection is as good as before.
        let limit = packet.limit::<D>(pooled.get(), &batch.records).await.map_err(classify::<D>);
        if !matches!(&limit, Err(failure) if failure.is_passing()) {
            pooled.settled();
        }
        limit?;
        let create = config.initialize_schema;
        loop {
            let over = Over::Ours { silence: config.timeout, is_clean };
            let inserted =
                insert::insert::<D>(pooled.get(), over, batch, config, create, (None, packet)).await;
            let perhaps_inside = match inserted {
                Ok(inserted) => inserted.perhaps_inside,
                Err(failure) => {
                    // What was refused has been answered.
                    if is_one_statement
                        && !matches!(failure.trouble(), Trouble::Unavailable | Trouble::Timeout)
                    {
                        pooled.settled();
                    }
                    return Err(failure);
                }
            };
            if !perhaps_inside || !D::is_in_transaction(pooled.get()).await.map_err(classify::<D>)? {
                shared.spares.keep(pooled);
                return Ok(());
            }
            // Whoever began it has lost it, so that nobody would ever commit the messages. The connection is closed,
            // which rolls back.
            tracing::warn!("{FORGOTTEN}");
            drop(pooled);
            (pooled, is_clean) = (Pooled::clean(pool).await?, true);
        }
    }
}

impl<D: SqlDatabase> Clone for SqlPublisher<D> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), config: self.config.clone(), shared: self.shared.clone() }
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlPublisher<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPublisher")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
