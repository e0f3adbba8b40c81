//! Finds out about topics before they are read, and makes missing ones where that is asked for.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::Client,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};
use tokio::{sync::oneshot, task, time::Instant};

use watermill_core::backend::{Failure, Trouble};

use crate::{
    config::{CreateTopics, KafkaPublisherConfig, KafkaSubscriberConfig, StartPosition, check_topic},
    elsewhere::Elsewhere,
    error,
    log::Quiet,
};

/// The pause between looks at a topic that is being made.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is known of a topic that is going to be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) partitions: i32,
    /// Where to begin in each partition, if not with its oldest message.
    pub(crate) starts: Vec<i64>,
}

/// Sees to it that a topic can be read. Nothing is left behind by a dropped call but the topic that it
/// may have made.
pub(crate) async fn prepare(
    config: &KafkaSubscriberConfig,
    group: &str,
    topic: &str,
) -> Result<Prepared, Failure> {
    check_topic(topic).map_err(|problem| Failure::because(Trouble::Topic, problem))?;
    let scout = Scout::new(config, group)?;
    let partitions = match scout.partitions(topic).await? {
        Some(partitions) => partitions,
        None => {
            let create = config.create_topics.ok_or_else(|| missing(topic))?;
            self::create(config.scout(group), create, topic, config.request_timeout).await?
        }
    };
    let starts = match config.start {
        StartPosition::Earliest => Vec::new(),
        StartPosition::Latest => scout.ends(topic, partitions).await?,
    };
    Ok(Prepared { partitions, starts })
}

/// Notes for a group that has never read the topic where it begins.
pub(crate) async fn pin(
    config: &KafkaSubscriberConfig,
    group: &str,
    topic: &str,
    prepared: &Prepared,
) -> Result<(), Failure> {
    let scout = Scout::new(config, group)?;
    scout.pin(topic, prepared.starts.clone()).await
}

pub(crate) fn missing(topic: &str) -> Failure {
    error::classify_code(Code::UnknownTopicOrPartition).explained(missing_detail(topic))
}

pub(crate) fn missing_detail(topic: &str) -> String {
    format!("there is no topic {topic:?}; create it, or have it created by `create_topics`")
}

/// Makes a topic unless it is there, waits until every partition of it can be used, and returns how many
/// there are. Brokers that do not know it then are on their way.
pub(crate) async fn create(
    client: ClientConfig,
    create: CreateTopics,
    topic: &str,
    timeout: Duration,
) -> Result<i32, Failure> {
    let admin = client.create_with_context::<_, AdminClient<_>>(Quiet::default()).map_err(error::classify)?;
    let admin = Elsewhere::new(admin);
    let new = NewTopic::new(topic, create.partitions, TopicReplication::Fixed(create.replication));
    let options = AdminOptions::new().operation_timeout(Some(timeout)).request_timeout(Some(timeout));
    for result in admin.create_topics([&new], &options).await.map_err(error::classify)? {
        match result {
            // Another process was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(error::classify_code(code).explained("the topic could not be created"));
            }
        }
    }
    let (answer, answered) = oneshot::channel();
    let topic = topic.to_owned();
    task::spawn_blocking(move || {
        let _ = answer.send(await_leaders(admin.inner(), &topic, timeout));
    });
    let made = answered.await;
    made.unwrap_or_else(|_| Err(Failure::because(Trouble::Unavailable, "the runtime is ending"))).map_err(
        |failure| match failure.trouble() {
            Trouble::Topic => failure
                .with_trouble(Trouble::Unavailable)
                .explained("the topic was made, and not every broker knows it yet"),
            _ => failure,
        },
    )
}

/// Sees to it that a topic can be published to, with a client of its own: makes it where that is asked for, and
/// waits for its leaders if it is there. Whether it is.
pub(crate) async fn prepare_to_publish(config: &KafkaPublisherConfig, topic: &str) -> Result<bool, Failure> {
    let timeout = config.request_timeout;
    if let Some(create) = config.create_topics {
        return self::create(config.client(), create, topic, timeout).await.map(|_| true);
    }
    let admin: AdminClient<Quiet> =
        config.connection().create_with_context(Quiet::default()).map_err(error::classify)?;
    let (admin, topic) = (Elsewhere::new(admin), topic.to_owned());
    Ok(task::spawn_blocking(move || have_leaders(admin.inner(), &topic, timeout)).await.unwrap_or(false))
}

/// Whether a topic is there and the leaders of all its partitions answer; blocks.
pub(crate) fn have_leaders<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> bool {
    match partitions(client, topic, timeout) {
        Ok(Found::Ready(partitions)) => watermarks(client, topic, partitions, timeout).is_ok(),
        Ok(Found::NotReady(_)) => await_leaders(client, topic, timeout).is_ok(),
        Ok(Found::Missing) | Err(_) => false,
    }
}

/// Waits until the leader of every partition answers; blocks.
///
/// That a partition has a leader is known a moment before the leader knows. An idempotent producer that
/// sends then can lose its first message: the leader refuses the first batch, accepts the next ones, and
/// takes the first for a duplicate when it is sent again (seen on Kafka 4.1).
fn await_leaders<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<i32, Failure> {
    let until = Instant::now() + timeout;
    let partitions = loop {
        match partitions(client, topic, timeout).map_err(error::classify)? {
            Found::Ready(partitions) => break partitions,
            // Brokers hear of a new topic one after another.
            Found::Missing | Found::NotReady(_) if Instant::now() < until => pause(),
            Found::Missing => return Err(missing(topic)),
            Found::NotReady(code) => return Err(error::classify_code(code)),
        }
    };
    watermarks(client, topic, partitions, timeout).map_err(error::classify)?;
    Ok(partitions)
}

/// Asks the leader of each partition for the offsets of its oldest message and after its newest one; blocks.
fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: i32,
    timeout: Duration,
) -> Result<Vec<(i64, i64)>, KafkaError> {
    let until = Instant::now() + timeout;
    let watermarks = |partition| loop {
        match client.fetch_watermarks(topic, partition, timeout) {
            Ok(watermarks) => return Ok(watermarks),
            Err(error) if is_no_leader(&error) && Instant::now() < until => pause(),
            Err(error) => return Err(error),
        }
    };
    (0..partitions).map(watermarks).collect()
}

/// Whether a partition is between two leaders, its first one does not know yet that it is one, or the client
/// has asked a broker that has not heard of the topic yet.
fn is_no_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
        )
    )
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "this is no worker of a runtime")]
    thread::sleep(LOOK_AGAIN);
}

/// A client for a few questions. It joins no group.
pub(crate) struct Scout {
    consumer: Option<Arc<BaseConsumer<Quiet>>>,
    timeout: Duration,
}

impl Scout {
    pub(crate) fn new(config: &KafkaSubscriberConfig, group: &str) -> Result<Self, Failure> {
        Self::of(&config.scout(group), config.request_timeout)
    }

    pub(crate) fn of(client: &ClientConfig, timeout: Duration) -> Result<Self, Failure> {
        let consumer = client.create_with_context::<_, BaseConsumer<Quiet>>(Quiet::default());
        Ok(Self { consumer: Some(Arc::new(consumer.map_err(error::classify)?)), timeout })
    }

    /// Asks on a thread that may wait.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Quiet>, Duration) -> Result<R, KafkaError> + Send + 'static,
    ) -> Result<R, Failure> {
        let consumer = self.consumer.clone().expect("the client is there until the scout is dropped");
        let timeout = self.timeout;
        match task::spawn_blocking(move || question(&consumer, timeout)).await {
            Ok(answer) => answer.map_err(error::classify),
            Err(error) => Err(Failure::because(Trouble::Unavailable, error.to_string())),
        }
    }

    /// How many partitions a topic has; `None` where there is no such topic.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<Option<i32>, Failure> {
        let until = Instant::now() + self.timeout;
        loop {
            let name = topic.to_owned();
            let found =
                self.ask(move |consumer, timeout| partitions(consumer.client(), &name, timeout)).await?;
            match found {
                Found::Ready(partitions) => return Ok(Some(partitions)),
                Found::Missing => return Ok(None),
                Found::NotReady(code) if Instant::now() >= until => return Err(error::classify_code(code)),
                Found::NotReady(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The offset after the newest message of each partition.
    pub(crate) async fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<i64>, Failure> {
        let watermarks = self.watermarks(topic, partitions).await?;
        Ok(watermarks.into_iter().map(|(_, end)| end).collect())
    }

    /// The offsets of the oldest message and after the newest one of each partition.
    pub(crate) async fn watermarks(&self, topic: &str, partitions: i32) -> Result<Vec<(i64, i64)>, Failure> {
        let topic = topic.to_owned();
        self.ask(move |consumer, timeout| watermarks(consumer.client(), &topic, partitions, timeout)).await
    }

    /// The offset of the first message of each partition that was published then or later, in milliseconds since the
    /// Unix epoch; `None` where there is none.
    pub(crate) async fn offsets_at(
        &self,
        topic: &str,
        partitions: i32,
        millis: i64,
    ) -> Result<Vec<Option<i64>>, Failure> {
        let topic = topic.to_owned();
        self.ask(move |consumer, timeout| {
            let mut asked = TopicPartitionList::new();
            for partition in 0..partitions {
                asked.add_partition_offset(&topic, partition, Offset::Offset(millis))?;
            }
            let found = consumer.offsets_for_times(asked, timeout)?;
            found.elements().iter().try_for_each(|element| element.error())?;
            let offset = |partition| match found.find_partition(&topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((0..partitions).map(offset).collect())
        })
        .await
    }

    /// What the group has committed of each partition.
    pub(crate) async fn committed(&self, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>, Failure> {
        let topic = topic.to_owned();
        self.ask(move |consumer, timeout| {
            let mut asked = TopicPartitionList::new();
            for partition in 0..partitions {
                asked.add_partition(&topic, partition);
            }
            let committed = consumer.committed_offsets(asked, timeout)?;
            let position = |partition| {
                let element = committed.find_partition(&topic, partition)?;
                if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None }
            };
            committed.elements().iter().try_for_each(|element| element.error())?;
            Ok((0..partitions).map(position).collect())
        })
        .await
    }

    /// How many members a group has.
    pub(crate) async fn members(&self, group: &str) -> Result<usize, Failure> {
        let group = group.to_owned();
        self.ask(move |consumer, timeout| {
            let groups = consumer.fetch_group_list(Some(&group), timeout)?;
            Ok(groups.groups().iter().map(|group| group.members().len()).sum())
        })
        .await
    }

    async fn pin(&self, topic: &str, starts: Vec<i64>) -> Result<(), Failure> {
        let topic = topic.to_owned();
        self.ask(move |consumer, timeout| {
            let mut asked = TopicPartitionList::new();
            for at in (0..).take(starts.len()) {
                asked.add_partition(&topic, at);
            }
            let committed = consumer.committed_offsets(asked, timeout)?;
            let mut pinned = TopicPartitionList::new();
            for (element, start) in committed.elements().iter().zip(starts) {
                if element.offset() == Offset::Invalid {
                    pinned.add_partition_offset(&topic, element.partition(), Offset::Offset(start))?;
                }
            }
            if pinned.count() == 0 {
                return Ok(());
            }
            match consumer.commit(&pinned, CommitMode::Sync) {
                // The group is at work: its members note where they begin when they get the partitions.
                Err(error) if error.rdkafka_error_code() == Some(Code::UnknownMemberId) => Ok(()),
                result => result,
            }
        })
        .await
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        // Destroying a client waits for its threads.
        let _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(consumer));
    }
}

/// What the brokers know of a topic.
pub(crate) enum Found {
    Ready(i32),
    Missing,
    /// It is there, and something of it is not up yet.
    NotReady(Code),
}

/// Asks for a topic's partitions; blocks.
pub(crate) fn partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Found, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Found::Missing);
    };
    match found.error() {
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(Found::Missing),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
            Ok(Found::NotReady(Code::LeaderNotAvailable))
        }
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None if found.partitions().iter().any(|partition| partition.leader() < 0) => {
            Ok(Found::NotReady(Code::LeaderNotAvailable))
        }
        None => Ok(Found::Ready(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
    }
}
