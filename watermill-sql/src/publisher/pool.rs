//! [`SqlPublisher`]: publishes over a pool.

use std::{fmt, sync::Arc};

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
    ConnectionPublisher, SqlPublisherConfig,
    insert::{self, Batch},
};
use crate::{
    Layout, SqlDatabase,
    dialect::to_its_end,
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
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calls: Calls,
    /// A fair queue in front of a database that has one writer: calls are written in the order of their
    /// first polls, and do not wear out the busy timeout against one another.
    writing: Mutex<()>,
}

impl<D: SqlDatabase> SqlPublisher<D> {
    /// A publisher over `pool`. Nothing is sent before the first publish.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlPublisherConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { pool, config, shared: Arc::default() })
    }

    /// A publisher that works inside `transaction`: what it publishes is there after the commit and
    /// not before, and never after a rollback. Wrap it like any other publisher.
    ///
    /// It uses the default [`SqlPublisherConfig`]; see [`ConnectionPublisher::config`].
    pub fn in_transaction<'t>(transaction: &'t mut Transaction<'_, D>) -> ConnectionPublisher<'t, D> {
        ConnectionPublisher::new(&mut **transaction)
    }

    /// A publisher over one connection, in a transaction or not.
    pub fn on_connection(connection: &mut D::Connection) -> ConnectionPublisher<'_, D> {
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
            let tables = Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why))?;
            let mut connection = self.pool.acquire().await.map_err(classify::<D>)?;
            schema::ensure_messages::<D>(
                &mut connection,
                &tables,
                self.config.layout,
                self.config.payload_column,
                true,
            )
            .await
            .map(drop)
        };
        initialized.await.map_err(|failure| failure.subscribing(topic))
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
            match batch.is_one_statement::<D>() {
                true => insert(&self.pool, &batch, &self.config).await?,
                false => {
                    let (pool, config) = (self.pool.clone(), self.config.clone());
                    to_its_end::<D, _>(async move { insert(&pool, &batch, &config).await }).await?;
                }
            }
        }
        wake::wake(topic);
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.shared.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("sql")
            .keeps_order(D::ONE_WRITER)
            .atomic(true)
            .delays(self.config.layout == Layout::Queue)
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

async fn insert<D: SqlDatabase>(
    pool: &Pool<D>,
    batch: &Batch,
    config: &SqlPublisherConfig,
) -> Result<(), PublishError> {
    let connection = pool.acquire().await;
    let mut connection = connection.map_err(|error| classify::<D>(error).publishing(batch.tables.topic()))?;
    insert::insert::<D>(&mut connection, batch, config, config.initialize_schema, None).await.map(drop)
}
