//! [`SqlShards`]: the shards of a topic.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use watermill_core::{
    Subscriber,
    error::SubscribeError,
    subscriber::{Sharding, Shards},
};

use super::{Member, Plan, ShardsDialect, counts::check_count};
use crate::{
    SqlDatabase, SqlSubscriber, SqlSubscriberConfig,
    error::{Failure, Trouble, classify},
    log::{Cursor as _, LogDialect},
    schema,
    topic::Tables,
};

/// The shards of a topic that is a log, for the processes of a group.
pub(crate) struct SqlShards<D: SqlDatabase> {
    subscriber: SqlSubscriber<D>,
    topic: String,
    member: Arc<Member>,
}

impl<D: SqlDatabase> SqlShards<D> {
    pub(crate) fn new(subscriber: SqlSubscriber<D>, topic: &str, sharding: Sharding) -> Self {
        let member = Arc::new(Member::new(subscriber.group(), sharding.count, sharding.key_of));
        Self { subscriber, topic: topic.to_owned(), member }
    }
}

#[async_trait]
impl<D: SqlDatabase> Shards for SqlShards<D> {
    async fn count(&self) -> Result<u32, SubscribeError> {
        let counted = self.subscriber.plan_of(&self.topic, &self.member).await;
        let plan = counted.map_err(|failure| failure.subscribing(&self.topic))?;
        Ok(plan.shards.max(plan.wanted))
    }

    fn shard(&self, number: u32) -> Arc<dyn Subscriber> {
        Arc::new(self.subscriber.of_shard(&self.member, number))
    }
}

/// The plan of a group as it is stored, if it has one.
pub(crate) async fn stored<D: ShardsDialect>(
    connection: &mut D::Connection,
    topic: &str,
    group: &str,
) -> Result<Option<(Plan, String)>, Failure> {
    let Some(text) = D::plan(connection, topic, group).await.map_err(classify::<D>)? else { return Ok(None) };
    match Plan::decode(&text) {
        Some(plan) => Ok(Some((plan, text))),
        None => {
            let why =
                format!("the plan of the shards of the group {group:?} is none that this release knows");
            Err(Failure::because(Trouble::Refused, why))
        }
    }
}

/// Sees to everything that reading in shards needs, and returns the plan with a cursor of the group that it began with.
pub(crate) async fn prepare<D: LogDialect + ShardsDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
    member: &Member,
) -> Result<(Plan, SqlSubscriberConfig, D::Cursor), Failure> {
    check_count(member.count)?;
    let group = &*member.base;
    if group.contains('#') {
        let why = format!("the group {group:?} cannot be read in shards: their names have the # of its own");
        return Err(Failure::because(Trouble::Config, why));
    }
    schema::ensure_shards::<D>(connection, config.initialize_schema).await?;
    let plan = match stored::<D>(connection, tables.topic(), group).await? {
        Some((plan, _)) => plan,
        None => {
            D::create_group(connection, tables, config).await.map_err(classify::<D>)?;
            let plan = Plan::new(member.count);
            let written = D::insert_plan(connection, tables.topic(), group, &plan.encode()).await;
            written.map_err(classify::<D>)?;
            // Of several that do so at once, one has.
            stored::<D>(connection, tables.topic(), group).await?.map_or(plan, |(plan, _)| plan)
        }
    };
    if plan.wanted != member.count {
        tracing::warn!(
            topic = tables.topic(),
            group,
            stored = plan.wanted,
            configured = member.count,
            "the group reads in another number of shards than is configured, and keeps to it",
        );
    }
    let config = config.clone().group(plan.group(group, 0));
    let cursor = D::open_cursor(connection, tables, &config).await?;
    if !cursor.is_by_offset() {
        let why = "the group reads in the order of transactions, and shards need the order of offsets: see CommitOrder";
        return Err(Failure::because(Trouble::Refused, why));
    }
    Ok((plan, config, cursor))
}

impl<D: SqlDatabase> fmt::Debug for SqlShards<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlShards").field("topic", &self.topic).finish_non_exhaustive()
    }
}
