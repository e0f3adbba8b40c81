//! [`SqlStore`]: the dead letters that a source keeps.

use async_trait::async_trait;
use watermill_core::error::SubscribeErrorKind;
use watermill_forwarder::dead_letters::{Letter, LetterStore, StoreError, Take};
use watermill_sql::{SqlPool, SqlPublisherConfig};

use crate::config::Source;

/// A table of the source's database. A letter goes back to the outbox in the transaction that deletes it.
pub(super) struct SqlStore {
    pool: SqlPool,
    topic: String,
    publisher: SqlPublisherConfig,
}

impl SqlStore {
    pub(super) fn open(source: &Source) -> Self {
        let topic = source.dead_letter_topic.clone();
        Self { pool: source.url.connect(), topic, publisher: source.publisher() }
    }
}

#[async_trait]
impl LetterStore for SqlStore {
    async fn look(&self, after: Option<i64>, limit: usize) -> Result<Vec<Letter>, StoreError> {
        let rows = match self.pool.peek(&self.topic, after.unwrap_or(0), limit).await {
            Ok(rows) => rows,
            // It is made by the first one.
            Err(error) if error.kind() == SubscribeErrorKind::Topic => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(rows.into_iter().map(|row| Letter::read(row.offset, row.message, row.published_at)).collect())
    }

    async fn newest(&self) -> Result<Option<i64>, StoreError> {
        match self.pool.newest(&self.topic).await {
            Ok(newest) => Ok(newest),
            Err(error) if error.kind() == SubscribeErrorKind::Topic => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn take(&self, takes: Vec<Take>, topic: &str) -> Result<u64, StoreError> {
        let rows = takes.into_iter().map(|take| (take.place, take.publish)).collect();
        Ok(self.pool.take(&self.topic, rows, (topic, self.publisher.clone())).await?)
    }
}
