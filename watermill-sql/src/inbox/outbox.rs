//! Publishing into the transaction of a step.

use async_trait::async_trait;
use tokio::{sync::Mutex, task::unconstrained};
use watermill_core::{
    Message, Outputs, Publisher,
    error::{BoxError, PublishError},
    publisher::PublisherCapabilities,
};

use super::open::Open;
use crate::{
    Layout, SqlDatabase,
    connection::within,
    error::{Failure, Trouble, classify},
    publisher::{Batch, insert_all},
    schema,
};

/// Publishes into a transaction that it borrows.
struct Publishing<'t, D: SqlDatabase>(Mutex<&'t mut Open<D>>);

impl<D: SqlDatabase> Open<D> {
    /// Publishes messages by topic, through what the inbox has put around its publisher.
    pub(super) async fn publish(&mut self, outputs: Outputs, own: Option<&str>) -> Result<(), BoxError> {
        if outputs.is_empty() {
            return Ok(());
        }
        let wrap = self.shared.wrap.clone();
        let publishing = Publishing(Mutex::new(self));
        let wrapped = wrap.as_ref().map(|wrap| wrap(&publishing));
        for (topic, messages) in outputs.by_topic(own)? {
            match &wrapped {
                Some(wrapped) => wrapped.publish(&topic, messages).await?,
                None => publishing.publish(&topic, messages).await?,
            }
        }
        Ok(())
    }

    async fn insert(&mut self, batch: &Batch) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let (config, tables) = (&shared.config.publishing, &batch.tables);
        let topic = tables.topic();
        let known = self.topics.get(topic).copied().or_else(|| shared.found(topic));
        let found = match known {
            Some(found) => found,
            None => {
                let create = config.initialize_schema && D::CREATES_IN_TRANSACTION;
                let connection = self.connection();
                let ensured = schema::ensure_messages::<D>(
                    connection,
                    tables,
                    config.layout,
                    config.payload_column,
                    create,
                );
                let ensured = ensured.await;
                if matches!(&ensured, Err(failure) if failure.trouble() == Trouble::Topic)
                    && config.initialize_schema
                    && !create
                {
                    self.missing = Some(tables.clone());
                }
                ensured?
            }
        };
        let inserted =
            insert_all::<D>(self.connection(), tables, &batch.records, config, found, &shared.known.packet);
        if let Err(error) = inserted.await {
            // Made or altered by somebody since.
            shared.forget(topic);
            return Err(classify::<D>(error));
        }
        self.topics.insert(topic.to_owned(), found);
        Ok(())
    }
}

#[async_trait]
impl<D: SqlDatabase> Publisher for Publishing<'_, D> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        // The place in the queue is taken by the first poll, whatever is left of the task's budget.
        let mut open = unconstrained(self.0.lock()).await;
        let config = &open.shared.config;
        let batch = Batch::new::<D>(topic, messages, &config.publishing)?;
        if batch.is_empty() {
            return Ok(());
        }
        let limit = config.timeout;
        within(limit, open.insert(&batch)).await.map_err(|failure| failure.publishing(topic))
    }

    /// Whose transaction it is ends it.
    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        let is_queue =
            self.0.try_lock().is_ok_and(|open| open.shared.config.publishing.layout == Layout::Queue);
        PublisherCapabilities::new("sql").keeps_order(true).atomic(true).delays(is_queue)
    }
}
