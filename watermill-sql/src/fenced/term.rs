//! [`SqlTerm`]: what one holder of a name commits.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::Pool;
use watermill_core::{
    error::{PublishError, PublishErrorKind},
    fenced::{Commit, Outgoing, Term},
};

use super::Held;
use crate::{
    SqlDatabase, SqlPublisherConfig,
    connection::{Pooled, begin, within},
    error::{Failure, Trouble, classify},
    publisher::{Batch, Packet, insert_all},
    schema::{self, Found},
    wake,
};

pub(super) struct SqlTerm<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlPublisherConfig,
    name: String,
    owner: String,
    checkpoint: Option<Bytes>,
    /// What is known of the tables of its topics.
    found: HashMap<String, Found>,
    packet: Packet,
    /// With the first error, or when a commit was dropped.
    is_over: bool,
}

/// What went wrong, and with which topic, or none of them.
type Failed = (Option<String>, Failure);

impl<D: SqlDatabase> SqlTerm<D> {
    pub(super) fn new(
        pool: Pool<D>,
        config: SqlPublisherConfig,
        name: &str,
        owner: String,
        checkpoint: Option<Vec<u8>>,
    ) -> Self {
        let checkpoint = checkpoint.map(Bytes::from);
        Self {
            pool,
            config,
            name: name.to_owned(),
            owner,
            checkpoint,
            found: HashMap::new(),
            packet: Packet::default(),
            is_over: false,
        }
    }

    async fn transaction(&mut self, batches: &[Batch], checkpoint: &[u8]) -> Result<(), Failed> {
        let mut pooled = Pooled::clean(&self.pool).await.map_err(of_none)?;
        for batch in batches {
            self.find(pooled.get(), batch).await.map_err(|failure| of(batch, failure))?;
        }
        let silence = self.config.timeout;
        let unwell = |error| of_none(classify::<D>(error));
        let mut transaction = begin::<D>(pooled.get(), silence).await.map_err(unwell)?;
        let held = Held { name: &self.name, owner: &self.owner };
        if !D::store_checkpoint(&mut transaction, &held, checkpoint).await.map_err(unwell)? {
            let why = "another relay has begun a term of this name";
            return Err(of_none(Failure::because(Trouble::Fenced, why)));
        }
        for batch in batches {
            let found = self.found[batch.tables.topic()];
            let (tables, records) = (&batch.tables, &batch.records);
            insert_all::<D>(&mut transaction, tables, records, &self.config, found, &self.packet)
                .await
                .map_err(|error| of(batch, classify::<D>(error)))?;
        }
        transaction.commit().await.map_err(|error| of_none(in_doubt::<D>(error)))?;
        // It is committed, whatever becomes of the connection.
        if D::end(pooled.get()).await.is_ok() {
            pooled.settled();
        }
        Ok(())
    }

    /// Sees to the table of a topic, once.
    async fn find(&mut self, connection: &mut D::Connection, batch: &Batch) -> Result<(), Failure> {
        let topic = batch.tables.topic();
        if !self.found.contains_key(topic) {
            let SqlPublisherConfig { layout, payload_column, initialize_schema, .. } = self.config;
            let found = schema::ensure_messages::<D>(
                connection,
                &batch.tables,
                layout,
                payload_column,
                initialize_schema,
            )
            .await?;
            self.found.insert(topic.to_owned(), found);
        }
        Ok(())
    }
}

#[async_trait]
impl<D: SqlDatabase> Term for SqlTerm<D> {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref()
    }

    /// In one go: what came next would wait for this commit at the row of the checkpoint.
    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        // Until it has come to its end: dropped in the middle, the term is over.
        if std::mem::replace(&mut self.is_over, true) {
            let over = "the term is over since its last error; begin another";
            return Err(PublishError::new(PublishErrorKind::Unavailable, &*self.name).because(over));
        }
        let batches = batch
            .into_iter()
            .map(|Outgoing { topic, messages }| Batch::new::<D>(&topic, messages, &self.config))
            .collect::<Result<Vec<_>, _>>()?;
        let mut topic = None;
        let committed = within(self.config.timeout, async {
            self.transaction(&batches, &checkpoint).await.map_err(|(of, failure)| {
                topic = of;
                failure
            })
        });
        if let Err(failure) = committed.await {
            return Err(failure.publishing(topic.as_deref().unwrap_or(&self.name)));
        }
        self.is_over = false;
        batches.iter().for_each(|batch| wake::wake(batch.tables.topic()));
        Ok(Commit::done())
    }
}

/// What the server did not refuse at a commit it may have done.
fn in_doubt<D: SqlDatabase>(error: sqlx::Error) -> Failure {
    let is_refused = matches!(error, sqlx::Error::Database(_));
    let failure = classify::<D>(error);
    match is_refused {
        true => failure,
        false => failure.with_trouble(Trouble::Timeout),
    }
}

fn of(batch: &Batch, failure: Failure) -> Failed {
    (Some(batch.tables.topic().to_owned()), failure)
}

fn of_none(failure: Failure) -> Failed {
    (None, failure)
}
