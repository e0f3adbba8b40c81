//! [`ConnectionPublisher`]: publishes inside the caller's transaction.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use tokio::{sync::Mutex, task::unconstrained};
use watermill_core::{Message, Publisher, error::PublishError, publisher::PublisherCapabilities};

use super::{
    SqlPublisherConfig,
    insert::{Batch, insert},
};
use crate::{
    Layout, SqlDatabase,
    schema::{self, Found},
    wake,
};

/// Publishes over one borrowed connection: made by
/// [`SqlPublisher::in_transaction`](crate::SqlPublisher::in_transaction) and
/// [`on_connection`](crate::SqlPublisher::on_connection).
///
/// Nothing is visible to readers, and nothing is durable, before the caller commits. A call that
/// fails leaves none of its messages in the transaction, and the transaction usable, unless the
/// error says that it must be run again.
///
/// On MySQL do not drop the future of a call with more than 1,000 messages (or 4 MiB) over a connection that is
/// not in a transaction: it may leave one open.
///
/// Readers in this process are told to look when the publisher is dropped, which is as near to the
/// commit as it can see. They look again at short intervals, so that they see the commit soon after.
pub struct ConnectionPublisher<'t, D: SqlDatabase> {
    state: Mutex<State<'t, D>>,
    config: SqlPublisherConfig,
}

struct State<'t, D: SqlDatabase> {
    connection: &'t mut D::Connection,
    closed: bool,
    /// The topics whose readers are told, and what is known about their tables.
    topics: BTreeMap<String, Found>,
}

impl<'t, D: SqlDatabase> ConnectionPublisher<'t, D> {
    pub(crate) fn new(connection: &'t mut D::Connection) -> Self {
        let state = State { connection, closed: false, topics: BTreeMap::new() };
        Self { state: Mutex::new(state), config: SqlPublisherConfig::default() }
    }

    /// Sets the configuration. A missing table is created inside the transaction where the database
    /// can do so without ending it.
    #[must_use]
    pub fn config(mut self, config: SqlPublisherConfig) -> Self {
        self.config = config;
        self
    }
}

#[async_trait]
impl<D: SqlDatabase> Publisher for ConnectionPublisher<'_, D> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        // The place in the queue is taken by the first poll, whatever is left of the task's budget.
        let mut state = unconstrained(self.state.lock()).await;
        if state.closed {
            return Err(PublishError::closed(topic));
        }
        let batch = Batch::new::<D>(topic, messages, &self.config)?;
        if batch.is_empty() {
            return Ok(());
        }
        let create = self.config.initialize_schema && D::CREATES_IN_TRANSACTION;
        let mut found = state.topics.get(topic).copied();
        if D::FAILURE_ENDS_TRANSACTION && found.is_none() {
            let ensured = schema::ensure_messages::<D>(
                state.connection,
                &batch.tables,
                self.config.layout,
                self.config.payload_column,
                create,
            )
            .await;
            found = Some(ensured.map_err(|failure| failure.publishing(topic))?);
        }
        let found = insert::<D>(state.connection, &batch, &self.config, create, found).await?;
        if !state.topics.contains_key(topic) {
            state.topics.insert(topic.to_owned(), found);
        }
        Ok(())
    }

    /// Ends the publisher, not the transaction.
    async fn close(&self) -> Result<(), PublishError> {
        self.state.lock().await.closed = true;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("sql")
            .keeps_order(true)
            .atomic(true)
            .delays(self.config.layout == Layout::Queue)
    }
}

impl<D: SqlDatabase> Drop for ConnectionPublisher<'_, D> {
    fn drop(&mut self) {
        self.state.get_mut().topics.keys().for_each(|topic| wake::wake(topic));
    }
}

impl<D: SqlDatabase> fmt::Debug for ConnectionPublisher<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPublisher")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
