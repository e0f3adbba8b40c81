//! [`KafkaStatus`]: how far groups have got, asked without being one of their members.

use std::fmt;

use watermill_core::{
    backend::{Failure, Trouble},
    error::{ConfigError, SubscribeError},
};

use crate::{
    KafkaSubscriberConfig,
    config::check_topic,
    lag::Measured,
    topics::{self, Scout},
};

/// Answers questions about topics and consumer groups: for tools, dashboards and alerts. It joins no group, reads no
/// message and commits nothing.
///
/// Each answer costs two small requests for each partition of the topic, whatever it holds, and two more.
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
    config: KafkaSubscriberConfig,
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
    /// How many messages the group has not acked. Offsets count: those of transaction markers and of messages that
    /// were compacted away, too. Where it has committed nothing, all that there are.
    pub lag: u64,
}

impl KafkaStatus {
    /// Asks the cluster of a configuration. Its group and where it starts do not matter; its `request_timeout` is that of
    /// each question. Nothing is sent before the first one.
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

    async fn ask(&self, group: &str, topic: &str) -> Result<GroupStatus, Failure> {
        check_topic(topic).map_err(|problem| Failure::because(Trouble::Topic, problem))?;
        if group.is_empty() || group.contains('\0') {
            return Err(Failure::because(Trouble::Config, "a group needs a name, without a NUL character"));
        }
        let scout = Scout::new(&self.config, group)?;
        let partitions = scout.partitions(topic).await?.ok_or_else(|| topics::missing(topic))?;
        let watermarks = scout.watermarks(topic, partitions).await?;
        let committed = scout.committed(topic, partitions).await?;
        let members = scout.members(group).await?;
        let of = |((partition, (oldest, end)), position): ((i32, (i64, i64)), Option<i64>)| {
            let measured = Measured { oldest, end, committed: position.unwrap_or(-1) };
            let lag = measured.lag(None).unwrap_or_default();
            PartitionStatus { partition, oldest, end, position, lag }
        };
        let partitions = (0..).zip(watermarks).zip(committed).map(of).collect();
        Ok(GroupStatus { group: group.to_owned(), topic: topic.to_owned(), members, partitions })
    }
}

impl GroupStatus {
    /// How many messages the group has not acked, in all partitions together.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag).sum()
    }
}

impl fmt::Debug for KafkaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaStatus").field("config", &self.config).finish()
    }
}
