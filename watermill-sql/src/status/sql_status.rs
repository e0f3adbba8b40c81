//! [`SqlStatus`]: asks.

use std::{fmt, time::Duration};

use sqlx::Pool;
use watermill_core::error::SubscribeError;

use super::{Count, GroupStatus, LogStatus, OwnerStatus, PeekedMessage, QueueStatus, dialect::COUNTED_MAX};
use crate::{
    Layout, SqlDatabase, SqlSource,
    connection::{Checked, PREPARE_MAX, Pooled, within},
    error::{Failure, Trouble, classify},
    marshaler::Unreadable,
    schema,
    shards::shard_of_group,
    source::{self, Mapping, Use},
    topic::{LEASES, Tables},
};

/// The most rows of one look.
const PEEKED_MAX: usize = 1_000;

/// The status of topics, without a subscription to them. It reads, and neither creates nor changes anything. What a
/// question costs is bounded, however many rows there are: at most 10,000 are counted.
///
/// So is how long it takes, by [`timeout`](Self::timeout).
///
/// # Cancel safety
///
/// A question whose future is dropped has changed nothing; its connection is closed.
pub struct SqlStatus<D: SqlDatabase> {
    pool: Pool<D>,
    timeout: Duration,
    schema_qualified: bool,
    sources: Vec<SqlSource>,
    checked: Checked,
}

impl<D: SqlDatabase> SqlStatus<D> {
    /// Asks over `pool`, of which one connection at a time is needed.
    pub fn new(pool: Pool<D>) -> Self {
        Self {
            pool,
            timeout: PREPARE_MAX,
            schema_qualified: false,
            sources: Vec::new(),
            checked: Checked::default(),
        }
    }

    /// Sets how long the database may take for a question. Default: 10 s. One that takes longer fails, and its
    /// connection is closed: it may be half open, or wait for a lock.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether a topic may name the schema of its tables, on PostgreSQL; see
    /// [`SqlSubscriberConfig::schema_qualified`](crate::SqlSubscriberConfig::schema_qualified). Default: false.
    #[must_use]
    pub fn schema_qualified(mut self, schema_qualified: bool) -> Self {
        self.schema_qualified = schema_qualified;
        self
    }

    /// Adds a table that is not one of Watermill's. Its [topic](SqlSource::topic) can be asked about like any other: as a
    /// log by its groups' positions, and as a queue by our claims, once it was subscribed to. How old its messages are is
    /// known where the source says [when they were written](SqlSource::published_at).
    ///
    /// To count what is new in such a queue costs what its workers pay for each look.
    #[must_use]
    pub fn source(mut self, source: SqlSource) -> Self {
        self.sources.push(source);
        self
    }

    /// The tables of a topic, over those of a source.
    pub(super) async fn find(
        &self,
        connection: &mut D::Connection,
        topic: &str,
        used_as: impl Fn(&SqlSource) -> Result<Use, Failure>,
    ) -> Result<Tables, Failure> {
        let tables = self.tables(topic)?;
        match self.sources.iter().find(|source| source.topic_name() == topic) {
            Some(source) => source::tables_over::<D>(connection, tables, source, used_as(source)?).await,
            None => Ok(tables),
        }
    }

    fn tables(&self, topic: &str) -> Result<Tables, Failure> {
        Tables::named::<D>(topic, self.schema_qualified).map_err(|why| Failure::because(Trouble::Topic, why))
    }

    /// The groups of a log, and who writes to it now.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such log.
    pub async fn log(&self, topic: &str) -> Result<LogStatus, SubscribeError> {
        let asked = async {
            self.ask(async |connection: &mut D::Connection| {
                let tables = self.find(connection, topic, |_| Ok(Use::Log)).await?;
                log::<D>(connection, &tables).await
            })
            .await
        };
        asked.await.map_err(|failure| failure.subscribing(topic))
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
        let asked = async {
            let dead = dead_letter_topic.map(|topic| self.tables(topic)).transpose()?;
            self.ask(async |connection: &mut D::Connection| {
                let tables = self.find(connection, topic, |_| Ok(Use::Queue)).await?;
                queue::<D>(connection, &tables, dead.as_ref()).await
            })
            .await
        };
        asked.await.map_err(|failure| failure.subscribing(topic))
    }

    /// Looks at the rows of a log or a queue behind an offset, at most 1,000 and 16 MiB at once, in the order of their
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
        let asked = async {
            self.ask(async |connection: &mut D::Connection| {
                let tables = self.find(connection, topic, in_order).await?;
                peek::<D>(connection, &tables, after, limit).await
            })
            .await
        };
        asked.await.map_err(|failure| failure.subscribing(topic))
    }

    /// The offset of the newest row of a log or a queue; `None` where it has no row.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such topic.
    pub async fn newest(&self, topic: &str) -> Result<Option<i64>, SubscribeError> {
        let asked = async {
            self.ask(async |connection: &mut D::Connection| {
                let tables = self.find(connection, topic, in_order).await?;
                layout::<D>(connection, &tables).await?;
                let backlog = D::backlog(connection, &tables, 0.into()).await.map_err(classify::<D>)?;
                Ok(backlog.newest)
            })
            .await
        };
        asked.await.map_err(|failure| failure.subscribing(topic))
    }

    /// Asks over a connection of the pool, which is closed if there is no answer.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut D::Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        within(self.timeout, async {
            self.checked.pool(&self.pool).await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            let answer = question(pooled.get()).await;
            if !matches!(&answer, Err(failure) if failure.is_passing()) {
                pooled.settled();
            }
            answer
        })
        .await
    }
}

async fn log<D: SqlDatabase>(connection: &mut D::Connection, tables: &Tables) -> Result<LogStatus, Failure> {
    if layout::<D>(connection, tables).await? != Layout::Log {
        return Err(Failure::because(Trouble::Topic, "the topic is a queue: ask for that"));
    }
    let rows = match schema::has_offsets::<D>(connection, tables).await? {
        true => {
            let leases = D::columns(connection, LEASES).await.map_err(classify::<D>)?;
            D::groups(connection, tables, !leases.is_empty()).await.map_err(classify::<D>)?
        }
        false => Vec::new(),
    };
    let mut groups = Vec::with_capacity(rows.len());
    for row in rows {
        let backlog = D::backlog(connection, tables, row.position).await.map_err(classify::<D>)?;
        let remaining = row.remaining_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let (group, shard) = match shard_of_group(&row.group) {
            Some((base, number)) => (base.to_owned(), Some(number)),
            None => (row.group, None),
        };
        groups.push(GroupStatus {
            group,
            shard,
            position: row.position.offset,
            backlog: Count::of_log(&backlog, row.position.offset),
            oldest_unread: backlog.oldest_ms.map(milliseconds),
            owner: row
                .owner
                .zip(remaining)
                .map(|(owner, ms)| OwnerStatus { owner, remaining: Duration::from_millis(ms) }),
        });
    }
    let writers = D::writers(connection, tables).await.map_err(classify::<D>)?;
    Ok(LogStatus { groups, writers })
}

async fn queue<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
    dead_letters: Option<&Tables>,
) -> Result<QueueStatus, Failure> {
    if let Some(mapping) = tables.mapping() {
        return source_queue::<D>(connection, (tables, mapping), dead_letters).await;
    }
    let name = tables.messages_name();
    if layout::<D>(connection, tables).await? != Layout::Queue {
        return Err(Failure::because(Trouble::Topic, "the topic is a log: ask for that"));
    }
    let columns = D::columns(connection, &name).await.map_err(classify::<D>)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    let (has_due, ordered) = (has(schema::DUE), has(schema::HOLDS_KEY));
    let counts = D::queue_counts(connection, tables, has_due, ordered).await.map_err(classify::<D>)?;
    let oldest = D::oldest_unclaimed(connection, tables, has_due).await.map_err(classify::<D>)?;
    Ok(QueueStatus {
        due: Count::of(counts.due),
        behind: Count::of(counts.behind),
        delayed: Count::of(counts.delayed),
        in_hand: Count::of(counts.in_hand),
        oldest_unclaimed: oldest.map(milliseconds),
        dead: dead::<D>(connection, dead_letters).await?,
    })
}

/// Of a queue over somebody's table: what has no claim is due, and the claims tell the rest.
async fn source_queue<D: SqlDatabase>(
    connection: &mut D::Connection,
    (tables, mapping): (&Tables, &Mapping),
    dead_letters: Option<&Tables>,
) -> Result<QueueStatus, Failure> {
    if !source::has_claims::<D>(connection, tables).await? {
        return Err(Failure::because(Trouble::Topic, "nobody has subscribed to the source as to a queue"));
    }
    let counted = usize::try_from(COUNTED_MAX).unwrap_or(usize::MAX).saturating_add(1);
    let new = D::unclaimed(connection, tables, mapping, counted).await.map_err(classify::<D>)?;
    let counts = D::queue_counts(connection, tables, true, false).await.map_err(classify::<D>)?;
    let oldest = match new.first() {
        Some(id) => {
            D::rows_by_id(connection, mapping, std::slice::from_ref(id)).await.map_err(classify::<D>)?
        }
        None => Vec::new(),
    };
    let oldest = oldest.into_iter().find_map(|found| found.row.published_at);
    Ok(QueueStatus {
        due: Count::of(counts.due.saturating_add(i64::try_from(new.len()).unwrap_or(i64::MAX))),
        behind: Count::of(0),
        delayed: Count::of(counts.delayed),
        in_hand: Count::of(counts.in_hand),
        oldest_unclaimed: oldest.map(|at| at.elapsed().unwrap_or_default()),
        dead: dead::<D>(connection, dead_letters).await?,
    })
}

async fn dead<D: SqlDatabase>(
    connection: &mut D::Connection,
    dead_letters: Option<&Tables>,
) -> Result<Option<Count>, Failure> {
    let Some(tables) = dead_letters else { return Ok(None) };
    layout::<D>(connection, tables).await?;
    let backlog = D::backlog(connection, tables, 0.into()).await.map_err(classify::<D>)?;
    Ok(Some(Count::of(backlog.counted)))
}

pub(super) async fn peek<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
    after: i64,
    limit: usize,
) -> Result<Vec<PeekedMessage>, Failure> {
    let layout = layout::<D>(connection, tables).await?;
    let limit = limit.min(PEEKED_MAX);
    let peeked = D::peek(connection, tables, layout, after, limit).await.map_err(classify::<D>)?;
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

pub(super) async fn layout<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
) -> Result<Layout, Failure> {
    if tables.mapping().is_some() {
        return Ok(Layout::Log);
    }
    let missing = || Failure::because(Trouble::Topic, "there is no table of that topic");
    schema::layout_of::<D>(connection, tables).await?.ok_or_else(missing)
}

/// As what the rows of a source can be looked at.
pub(super) fn in_order(source: &SqlSource) -> Result<Use, Failure> {
    match source.offset {
        Some(_) => Ok(Use::Log),
        None => Err(Failure::because(
            Trouble::Topic,
            "the rows of a source have no offsets unless SqlSource::offset names them",
        )),
    }
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl<D: SqlDatabase> fmt::Debug for SqlStatus<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStatus").field("database", &D::NAME).finish_non_exhaustive()
    }
}
