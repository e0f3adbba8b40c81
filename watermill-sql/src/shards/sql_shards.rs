//! [`SqlShards`]: the shards of a topic.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use watermill_core::{
    Subscriber,
    error::SubscribeError,
    subscriber::{Sharding, Shards},
};

use super::{Member, PLACE_CHARS, Plan, ShardsDialect, counts::check_count};
use crate::{
    SqlDatabase, SqlSubscriber, SqlSubscriberConfig,
    error::{Failure, Trouble, classify},
    log::{Cursor as _, GROUP_CHARS_MAX, LogDialect},
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
    let longest = GROUP_CHARS_MAX - PLACE_CHARS;
    if group.chars().count() > longest {
        let why = format!(
            "the group {group:?} cannot be read in shards: theirs are groups with longer names, so that it may have \
             {longest} characters at most"
        );
        return Err(Failure::because(Trouble::Config, why));
    }
    schema::ensure_shards::<D>(connection, config.initialize_schema).await?;
    let plan = plan_of::<D>(connection, tables, config, member.count).await?;
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

/// The plan of the configured group, made where there is none, and the group with it.
async fn plan_of<D: LogDialect + ShardsDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
    count: u32,
) -> Result<Plan, Failure> {
    let (topic, group) = (tables.topic(), config.group_name());
    let found = stored::<D>(connection, topic, group).await?;
    if found.as_ref().is_none_or(|(plan, _)| plan.generation == 0) {
        // First, so that whoever sees the plan sees the position of its one shard.
        D::create_group(connection, tables, config).await.map_err(classify::<D>)?;
    }
    if found.is_none() {
        let plan = Plan::new(count).encode();
        D::insert_plan(connection, topic, group, &plan).await.map_err(classify::<D>)?;
    }
    // Of several that make it at once one has, and others may have got on with it meanwhile.
    let Some((plan, _)) = stored::<D>(connection, topic, group).await? else {
        return Err(Failure::because(Trouble::Refused, "the plan of the shards is gone"));
    };
    // Then the group was made anew after its generation was over: here a moment ago, or by somebody who died since.
    if plan.generation > 0 && D::place(connection, tables, group).await.map_err(classify::<D>)?.is_some() {
        D::forget_position(connection, tables, group).await.map_err(classify::<D>)?;
    }
    Ok(plan)
}

impl<D: SqlDatabase> fmt::Debug for SqlShards<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlShards").field("topic", &self.topic).finish_non_exhaustive()
    }
}
