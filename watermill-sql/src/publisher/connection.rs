//! [`ConnectionPublisher`]: publishes inside the caller's transaction.

use std::{collections::BTreeMap, fmt, marker::PhantomData, ops::DerefMut};

use async_trait::async_trait;
use tokio::{sync::Mutex, task::unconstrained};
use watermill_core::{Message, Publisher, error::PublishError, publisher::PublisherCapabilities};

use super::{
    Packet, SqlPublisherConfig,
    insert::{Batch, Over, insert},
};
use crate::{
    Layout, SqlDatabase,
    connection::within,
    error::Failure,
    schema::{self, Found},
    wake,
};

/// Publishes over one connection: made by [`SqlPublisher::in_transaction`](crate::SqlPublisher::in_transaction) and
/// [`on_connection`](crate::SqlPublisher::on_connection) over a borrowed one, and by
/// [`owning`](crate::SqlPublisher::owning) over whatever is one or leads to one, such as a transaction that a
/// middleware begins for its handler.
///
/// Nothing is visible to readers, and nothing is durable, before the caller commits. A call that
/// fails leaves none of its messages in the transaction, and the transaction usable, unless the
/// error says that it must be run again. That holds, too, in a transaction that the caller has begun with a statement of
/// its own.
///
/// Except on SQLite, do not drop the future of a call with more than 1,000 messages (or 4 MiB on MySQL) over a
/// connection that is not in a transaction of sqlx's: it may leave one open, or a part of its messages in the caller's.
///
/// Readers in this process are told to look when the publisher is dropped, which is as near to the
/// commit as it can see. They look again at short intervals, so that they see the commit soon after.
pub struct ConnectionPublisher<D: SqlDatabase, C> {
    state: Mutex<State<C>>,
    config: SqlPublisherConfig,
    database: PhantomData<fn() -> D>,
}

struct State<C> {
    connection: C,
    closed: bool,
    topics: Topics,
    packet: Packet,
}

/// The topics whose readers are told in the end, and what is known about their tables.
#[derive(Default)]
struct Topics(BTreeMap<String, Found>);

impl<D: SqlDatabase, C> ConnectionPublisher<D, C> {
    pub(crate) fn new(connection: C) -> Self {
        let state = State { connection, closed: false, topics: Topics::default(), packet: Packet::default() };
        Self { state: Mutex::new(state), config: SqlPublisherConfig::default(), database: PhantomData }
    }

    /// Sets the configuration. A missing table is created inside the transaction where the database
    /// can do so without ending it.
    #[must_use]
    pub fn config(mut self, config: SqlPublisherConfig) -> Self {
        self.config = config;
        self
    }

    /// Ends the publisher and gives back what it was made over, to commit it.
    pub fn into_inner(self) -> C {
        self.state.into_inner().connection
    }
}

#[async_trait]
impl<D: SqlDatabase, C> Publisher for ConnectionPublisher<D, C>
where
    C: DerefMut<Target = D::Connection> + Send,
{
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
        let found = state.topics.0.get(batch.tables.topic()).copied();
        let State { connection, packet, .. } = &mut *state;
        let inserting = within(self.config.timeout, self.insert(connection, &batch, found, packet));
        let found = inserting.await.map_err(|failure| failure.publishing(topic))?;
        if !state.topics.0.contains_key(batch.tables.topic()) {
            state.topics.0.insert(batch.tables.topic().to_owned(), found);
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

impl<D: SqlDatabase, C> ConnectionPublisher<D, C> {
    async fn insert(
        &self,
        connection: &mut D::Connection,
        batch: &Batch,
        mut found: Option<Found>,
        packet: &Packet,
    ) -> Result<Found, Failure> {
        let SqlPublisherConfig { layout, payload_column, initialize_schema, .. } = self.config;
        let create = initialize_schema && D::CREATES_IN_TRANSACTION;
        if D::FAILURE_ENDS_TRANSACTION && found.is_none() {
            let ensured =
                schema::ensure_messages::<D>(connection, &batch.tables, layout, payload_column, create);
            found = Some(ensured.await?);
        }
        let known = (found, packet);
        Ok(insert::<D>(connection, Over::Callers, batch, &self.config, create, known).await?.found)
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        self.0.keys().for_each(|topic| wake::wake(topic));
    }
}

impl<D: SqlDatabase, C> fmt::Debug for ConnectionPublisher<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPublisher")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
