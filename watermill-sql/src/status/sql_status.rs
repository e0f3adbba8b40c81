//! [`SqlStatus`]: asks.

use std::{fmt, time::Duration};

use sqlx::Pool;
use watermill_core::error::SubscribeError;

use super::{Count, GroupStatus, LogStatus, OwnerStatus, PeekedMessage, QueueStatus};
use crate::{
    Layout, SqlDatabase,
    error::{Failure, Trouble, classify},
    marshaler::Unreadable,
    schema,
    topic::{LEASES, Tables},
};

/// The most rows of one look.
const PEEKED_MAX: usize = 1_000;

/// The status of topics, without a subscription to them. It reads, and neither creates nor changes anything. What a
/// question costs is bounded, however many rows there are: at most 10,000 are counted.
pub struct SqlStatus<D: SqlDatabase> {
    pool: Pool<D>,
}

impl<D: SqlDatabase> SqlStatus<D> {
    /// Asks over `pool`, of which one connection at a time is needed.
    pub fn new(pool: Pool<D>) -> Self {
        Self { pool }
    }

    /// The groups of a log, and who writes to it now.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such log.
    pub async fn log(&self, topic: &str) -> Result<LogStatus, SubscribeError> {
        self.ask_log(topic).await.map_err(|failure| failure.subscribing(topic))
    }

    /// How many messages of a queue wait for what, and how many there are in the topic of its dead letters.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such queue.
    pub async fn queue(
        &self,
        topic: &str,
        dead_letter_topic: Option<&str>,
    ) -> Result<QueueStatus, SubscribeError> {
        self.ask_queue(topic, dead_letter_topic).await.map_err(|failure| failure.subscribing(topic))
    }

    /// Looks at the rows of a log or a queue behind an offset, at most 1,000 at once, in the order of their
    /// offsets, whatever readers and workers have: to list dead letters, and to publish them again.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such topic.
    pub async fn peek(
        &self,
        topic: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<PeekedMessage>, SubscribeError> {
        self.look(topic, after, limit).await.map_err(|failure| failure.subscribing(topic))
    }

    async fn ask_log(&self, topic: &str) -> Result<LogStatus, Failure> {
        let tables = tables::<D>(topic)?;
        let mut connection = self.pool.acquire().await.map_err(classify::<D>)?;
        if layout::<D>(&mut connection, &tables).await? != Layout::Log {
            return Err(Failure::because(Trouble::Topic, "the topic is a queue: ask for that"));
        }
        let rows = match schema::has_offsets::<D>(&mut connection, &tables).await? {
            true => {
                let leases = D::columns(&mut connection, LEASES).await.map_err(classify::<D>)?;
                D::groups(&mut connection, &tables, !leases.is_empty()).await.map_err(classify::<D>)?
            }
            false => Vec::new(),
        };
        let mut groups = Vec::with_capacity(rows.len());
        for row in rows {
            let backlog = D::backlog(&mut connection, &tables, row.position).await.map_err(classify::<D>)?;
            let remaining = row.remaining_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
            groups.push(GroupStatus {
                position: row.position.offset,
                backlog: Count::of_log(&backlog, row.position.offset),
                oldest_unread: backlog
                    .oldest_ms
                    .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
                owner: row
                    .owner
                    .zip(remaining)
                    .map(|(owner, ms)| OwnerStatus { owner, remaining: Duration::from_millis(ms) }),
                group: row.group,
            });
        }
        let writers = D::writers(&mut connection, &tables).await.map_err(classify::<D>)?;
        Ok(LogStatus { groups, writers })
    }

    async fn ask_queue(&self, topic: &str, dead_letters: Option<&str>) -> Result<QueueStatus, Failure> {
        let tables = tables::<D>(topic)?;
        let mut connection = self.pool.acquire().await.map_err(classify::<D>)?;
        let name = tables.messages_name();
        if layout::<D>(&mut connection, &tables).await? != Layout::Queue {
            return Err(Failure::because(Trouble::Topic, "the topic is a log: ask for that"));
        }
        let columns = D::columns(&mut connection, &name).await.map_err(classify::<D>)?;
        let has = |name: &str| columns.iter().any(|column| column == name);
        let (has_due, ordered) = (has(schema::DUE), has(schema::HOLDS_KEY));
        let counts = D::queue_counts(&mut connection, &tables, has_due, ordered).await;
        let counts = counts.map_err(classify::<D>)?;
        let dead = match dead_letters {
            Some(topic) => {
                let tables = self::tables::<D>(topic)?;
                layout::<D>(&mut connection, &tables).await?;
                let backlog = D::backlog(&mut connection, &tables, 0.into()).await.map_err(classify::<D>)?;
                Some(Count::of(backlog.counted))
            }
            None => None,
        };
        Ok(QueueStatus {
            due: Count::of(counts.due),
            behind: Count::of(counts.behind),
            delayed: Count::of(counts.delayed),
            in_hand: Count::of(counts.in_hand),
            dead,
        })
    }

    async fn look(&self, topic: &str, after: i64, limit: usize) -> Result<Vec<PeekedMessage>, Failure> {
        let tables = tables::<D>(topic)?;
        let mut connection = self.pool.acquire().await.map_err(classify::<D>)?;
        let layout = layout::<D>(&mut connection, &tables).await?;
        let limit = limit.min(PEEKED_MAX);
        let peeked = D::peek(&mut connection, &tables, layout, after, limit).await.map_err(classify::<D>)?;
        let peeked = peeked.rows.into_iter().map(|row| {
            let (message, unreadable) = match row.message {
                Ok(stored) => (stored.message(), None),
                Err(Unreadable { error, remains }) => (remains, Some(error.to_string())),
            };
            let (offset, published_at) = (row.position.offset, row.published_at);
            PeekedMessage { offset, published_at, message, unreadable }
        });
        Ok(peeked.collect())
    }
}

fn tables<D: SqlDatabase>(topic: &str) -> Result<Tables, Failure> {
    Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why))
}

async fn layout<D: SqlDatabase>(connection: &mut D::Connection, tables: &Tables) -> Result<Layout, Failure> {
    let missing = || Failure::because(Trouble::Topic, "there is no table of that topic");
    schema::layout_of::<D>(connection, tables).await?.ok_or_else(missing)
}

impl<D: SqlDatabase> fmt::Debug for SqlStatus<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStatus").field("database", &D::NAME).finish_non_exhaustive()
    }
}
