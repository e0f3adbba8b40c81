//! [`SqlShardCounts`]: the number of shards of a group, from outside.

use std::fmt;

use sqlx::Pool;
use watermill_core::error::SubscribeError;

use super::{Plan, Replaced, SHARDS_MAX};
use crate::{
    SqlDatabase,
    connection::{Checked, PREPARE_MAX, Pooled, within},
    error::{Failure, Trouble, classify},
    schema,
    topic::Tables,
};

/// In how many shards groups read their topics, to look at and to change while they are read.
///
/// A change is stored, and made by those who read: they stop at a boundary in the log, all of them, and go on behind it in
/// the other number, so that each key stays in order. It takes about a second, and as long as a message waits that is
/// before the boundary. Meanwhile everything goes on up to there.
///
/// ```
/// # use sqlx::SqlitePool;
/// # use watermill_sql::SqlShardCounts;
/// # async fn change(pool: SqlitePool) -> Result<(), watermill_core::error::SubscribeError> {
/// let shards = SqlShardCounts::new(pool);
/// if let Some(count) = shards.get("forwarder", "default").await? {
///     println!("{} shards, {} wanted", count.now, count.wanted);
///     shards.set("forwarder", "default", 8).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// A question whose future is dropped has changed nothing, or all that it was to change.
pub struct SqlShardCounts<D: SqlDatabase> {
    pool: Pool<D>,
    schema_qualified: bool,
    checked: Checked,
}

/// In how many shards a group reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardCount {
    /// So many there are.
    pub now: u32,
    /// So many there will be.
    pub wanted: u32,
    /// How often the number has changed.
    pub generation: u64,
}

impl<D: SqlDatabase> SqlShardCounts<D> {
    /// Asks over `pool`, of which one connection at a time is needed.
    pub fn new(pool: Pool<D>) -> Self {
        Self { pool, schema_qualified: false, checked: Checked::default() }
    }

    /// Whether a topic may name the schema of its tables, on PostgreSQL; see
    /// [`SqlSubscriberConfig::schema_qualified`](crate::SqlSubscriberConfig::schema_qualified). Default: false.
    #[must_use]
    pub fn schema_qualified(mut self, schema_qualified: bool) -> Self {
        self.schema_qualified = schema_qualified;
        self
    }

    /// In how many shards a group reads a topic; `None` where it does not read in shards. The name of a group that was not
    /// set is that of the database's default, which is empty on PostgreSQL and MySQL.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] when the database cannot be asked.
    pub async fn get(&self, topic: &str, group: &str) -> Result<Option<ShardCount>, SubscribeError> {
        let plan = self.ask(topic, async |connection, tables| plan::<D>(connection, tables, group).await);
        let count = |(plan, _): (Plan, _)| ShardCount {
            now: plan.shards,
            wanted: plan.wanted,
            generation: plan.generation,
        };
        Ok(plan.await?.map(count))
    }

    /// Sets how many shards there are to be, from 1 to 64, of a group that reads in shards.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] when the database cannot be asked, when the number is none that there can be, and when the group does
    /// not read in shards yet.
    pub async fn set(&self, topic: &str, group: &str, count: u32) -> Result<(), SubscribeError> {
        let set = self.ask(topic, async |connection, tables: &Tables| {
            check_count(count)?;
            loop {
                let Some((plan, from)) = plan::<D>(connection, tables, group).await? else {
                    let why =
                        format!("the group {group:?} does not read in shards: start its readers with shards");
                    return Err(Failure::because(Trouble::Topic, why));
                };
                let to = plan.want(count).encode();
                let replaced = Replaced { topic: tables.topic(), group, from, to };
                // Somebody else may have got on with it meanwhile.
                if D::replace_plan(connection, &replaced).await.map_err(classify::<D>)? {
                    return Ok(());
                }
            }
        });
        set.await
    }

    async fn ask<T>(
        &self,
        topic: &str,
        question: impl AsyncFnOnce(&mut D::Connection, &Tables) -> Result<T, Failure>,
    ) -> Result<T, SubscribeError> {
        let asked = async {
            let tables = Tables::named::<D>(topic, self.schema_qualified);
            let tables = tables.map_err(|why| Failure::because(Trouble::Topic, why))?;
            within(PREPARE_MAX, async {
                self.checked.pool(&self.pool).await?;
                let mut pooled = Pooled::clean(&self.pool).await?;
                let answer = question(pooled.get(), &tables).await;
                if !matches!(&answer, Err(failure) if failure.is_passing()) {
                    pooled.settled();
                }
                answer
            })
            .await
        };
        asked.await.map_err(|failure| failure.subscribing(topic))
    }
}

/// Refuses a number of shards that there cannot be.
pub(crate) fn check_count(count: u32) -> Result<(), Failure> {
    if (1..=SHARDS_MAX).contains(&count) {
        return Ok(());
    }
    Err(Failure::because(Trouble::Config, format!("{count} shards: there can be 1 to {SHARDS_MAX}")))
}

async fn plan<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
    group: &str,
) -> Result<Option<(Plan, String)>, Failure> {
    match schema::has_shards::<D>(connection).await? {
        true => super::sql_shards::stored::<D>(connection, tables.topic(), group).await,
        false => Ok(None),
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlShardCounts<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlShardCounts").field("database", &D::NAME).finish_non_exhaustive()
    }
}
