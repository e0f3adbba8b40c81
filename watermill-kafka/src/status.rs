//! [`KafkaStatus`]: how far groups have got, asked without being one of their members.

use std::{fmt, ops::Range};

use watermill_core::{
    backend::{Failure, Trouble},
    error::{ConfigError, SubscribeError},
};

use crate::{
    KafkaSubscriberConfig, PeekedMessage, StartPosition,
    config::check_topic,
    peek::{self, Place},
    topics::{self, Scout},
};

/// Answers questions about topics and consumer groups: for tools, dashboards and alerts. It joins no group and commits
/// nothing.
///
/// How far a group has got costs two small requests for each partition of the topic, whatever it holds, and two more.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use watermill_kafka::{KafkaStatus, KafkaSubscriberConfig};
///
/// let status = KafkaStatus::new(KafkaSubscriberConfig::new("localhost:9092"))?;
/// let billing = status.group("billing", "orders.placed").await?;
/// println!("{} messages behind, {} members", billing.lag(), billing.members);
/// # Ok(())
/// # }
/// ```
pub struct KafkaStatus {
    pub(crate) config: KafkaSubscriberConfig,
}

/// How far a group has got with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// How many members the group has now, of any topic.
    pub members: usize,
    /// The topic's partitions, in their order.
    pub partitions: Vec<PartitionStatus>,
}

/// A partition, and how far a group has got with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The partition.
    pub partition: i32,
    /// The offset of the oldest message that it has.
    pub oldest: i64,
    /// The offset after the newest one; with `isolation.level` as it comes, of those that are committed.
    pub end: i64,
    /// The offset at which the group goes on; `None` where it has committed nothing.
    pub position: Option<i64>,
    /// How many messages the group has before it. Offsets count: those of transaction markers and of messages that
    /// were compacted away, too.
    ///
    /// Where it has committed nothing, those with which it would begin: by the [`start`](KafkaSubscriberConfig::start)
    /// of the status' configuration all that there are, or none. A group that has a position in another partition of the
    /// topic reads this one from its beginning either way. Where its position is not in the log any more, because
    /// retention has passed it or the topic was made anew, all that there are, too.
    pub lag: u64,
}

impl KafkaStatus {
    /// Asks the cluster of a configuration. Its group does not matter; its [`start`](KafkaSubscriberConfig::start) is
    /// where groups are taken to begin that have committed nothing, and its `request_timeout` is that of each
    /// question. Nothing is sent before the first one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaSubscriberConfig::validate`].
    pub fn new(config: KafkaSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// How far a group has got with a topic. A group that nobody has heard of has committed nothing.
    ///
    /// # Errors
    ///
    /// [`Topic`](watermill_core::error::SubscribeErrorKind::Topic) where there is no such topic,
    /// [`Unavailable`](watermill_core::error::SubscribeErrorKind::Unavailable) where brokers have not answered in time,
    /// and [`Refused`](watermill_core::error::SubscribeErrorKind::Refused) to those who may not ask.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing, and can be dropped.
    pub async fn group(&self, group: &str, topic: &str) -> Result<GroupStatus, SubscribeError> {
        self.ask(group, topic).await.map_err(|failure| failure.subscribing(topic))
    }

    /// Looks at the messages of a partition from an offset on, at most 1,000 and about 16 MiB at once, in their order,
    /// whatever groups have done: to list dead letters, and to publish them again. `from` may be any number: what is gone is passed, and
    /// beyond the end there is nothing. To go on, ask with the offset after the last one.
    ///
    /// It costs a client and two small requests, and fetches no more than it needs by about a megabyte. With
    /// `isolation.level` as it comes, messages of open and aborted transactions are not shown.
    ///
    /// # Errors
    ///
    /// As [`group`](Self::group); [`Topic`](watermill_core::error::SubscribeErrorKind::Topic) for a partition that the topic
    /// does not have, too.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing, and can be dropped.
    pub async fn peek(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        limit: usize,
    ) -> Result<Vec<PeekedMessage>, SubscribeError> {
        let place = Place { topic: topic.to_owned(), partition, from };
        peek::look(&self.config, place, limit).await.map_err(|failure| failure.subscribing(topic))
    }

    async fn ask(&self, group: &str, topic: &str) -> Result<GroupStatus, Failure> {
        check_topic(topic).map_err(|problem| Failure::because(Trouble::Topic, problem))?;
        if group.is_empty() || group.contains('\0') {
            return Err(Failure::because(Trouble::Config, "a group needs a name, without a NUL character"));
        }
        let scout = Scout::new(&self.config, group)?;
        let partitions = scout.partitions(topic).await?.ok_or_else(|| topics::missing(topic))?;
        // In this order: a position that is beyond the end then was not committed in between.
        let positions = scout.committed(topic, partitions).await?;
        let watermarks = scout.watermarks(topic, partitions).await?;
        let logs: Vec<Range<i64>> = watermarks.into_iter().map(|(oldest, end)| oldest..end).collect();
        let members = scout.members(group).await?;
        let lags = self.lags(group, topic, &positions, &logs).await?;
        let mut statuses = Vec::with_capacity(logs.len());
        for (partition, ((log, position), lag)) in (0..).zip(logs.into_iter().zip(positions).zip(lags)) {
            let Range { start: oldest, end } = log;
            statuses.push(PartitionStatus { partition, oldest, end, position, lag });
        }
        Ok(GroupStatus { group: group.to_owned(), topic: topic.to_owned(), members, partitions: statuses })
    }

    /// How many messages a group has before it in each partition, given its positions and what is there.
    async fn lags(
        &self,
        group: &str,
        topic: &str,
        positions: &[Option<i64>],
        logs: &[Range<i64>],
    ) -> Result<Vec<u64>, Failure> {
        let beyond = |(position, log): (&Option<i64>, &Range<i64>)| position.is_some_and(|at| at > log.end);
        let ends = if self.config.reads_committed() && positions.iter().zip(logs).any(beyond) {
            // A group that reads uncommitted messages may be ahead of those that are committed.
            let uncommitted = self.config.clone().option("isolation.level", "read_uncommitted");
            let partitions = i32::try_from(logs.len()).unwrap_or(i32::MAX);
            Scout::new(&uncommitted, group)?.ends(topic, partitions).await?
        } else {
            logs.iter().map(|log| log.end).collect()
        };
        let has_begun = positions.iter().any(Option::is_some);
        let at_the_end = self.config.start == StartPosition::Latest && !has_begun;
        let lag = |((position, log), end): ((&Option<i64>, &Range<i64>), i64)| {
            let next = match *position {
                None if at_the_end => log.end,
                Some(position) if (log.start..=end).contains(&position) => position,
                // It has none, or one that is not in the log.
                _ => log.start,
            };
            u64::try_from(log.end - next).unwrap_or_default()
        };
        Ok(positions.iter().zip(logs).zip(ends).map(lag).collect())
    }
}

impl GroupStatus {
    /// How many messages the group has before it, in all partitions together.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag).sum()
    }
}

impl fmt::Debug for KafkaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaStatus").field("config", &self.config).finish()
    }
}
