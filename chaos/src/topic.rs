//! [`Topic`]: where messages arrive, read with a plain client.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Result,
    records::{Arrived, Event, Records},
};

const PARTITIONS: i32 = 4;
/// What the topic takes of one message.
const MESSAGE_MAX_BYTES: &str = "262144";
const REQUEST: Duration = Duration::from_secs(10);
const READ_MAX: Duration = Duration::from_secs(120);

/// The topic of one run.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) brokers: String,
    pub(crate) name: String,
}

impl Topic {
    /// Makes it. The broker, and not whoever publishes, says when a record has come.
    pub(crate) async fn make(brokers: &str, name: &str) -> Result<Self> {
        let topic = Self { brokers: brokers.to_owned(), name: name.to_owned() };
        let admin: AdminClient<DefaultClientContext> = topic.client().create()?;
        let new = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime")
            .set("max.message.bytes", MESSAGE_MAX_BYTES);
        let made = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(REQUEST))).await?;
        for one in made {
            one.map_err(|(name, code)| format!("create {name}: {code}"))?;
        }
        Ok(topic)
    }

    /// Reads all that comes, until it is dropped.
    pub(crate) fn consume(&self, records: &Arc<Records>) -> Result<AbortOnDropHandle<()>> {
        let consumer: StreamConsumer = self.reader().create()?;
        consumer.assign(&self.whole()?)?;
        let records = Arc::clone(records);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut stream = consumer.stream();
            while let Some(next) = stream.next().await {
                // A broker that is away is waited for by the client.
                let Ok(record) = next else { continue };
                if let Ok(event) = read(record.payload()) {
                    records.seen(&event.id);
                }
            }
        })))
    }

    /// All that is committed in it, in the order of each partition.
    pub(crate) async fn read_all(&self) -> Result<Vec<Arrived>> {
        let consumer: BaseConsumer = self.reader().set("enable.partition.eof", "true").create()?;
        consumer.assign(&self.whole()?)?;
        let (mut arrived, mut ended) = (Vec::new(), HashMap::new());
        let until = Instant::now() + READ_MAX;
        while ended.len() < usize::try_from(PARTITIONS)? {
            if Instant::now() > until {
                return Err("the topic could not be read to its end".into());
            }
            match consumer.poll(Duration::ZERO) {
                None => sleep(Duration::from_millis(5)).await,
                Some(Ok(record)) => {
                    let at = record.timestamp().to_millis().unwrap_or_default();
                    arrived.push(Arrived { event: read(record.payload())?, at });
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition, ());
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(arrived)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        // So that what is measured is the relay's wait, and not this client's.
        config.set("reconnect.backoff.max.ms", "500");
        config
    }

    fn reader(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", "chaos").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "50");
        config
    }

    fn whole(&self) -> Result<TopicPartitionList> {
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(&self.name, partition, Offset::Beginning)?;
        }
        Ok(partitions)
    }
}

fn read(payload: Option<&[u8]>) -> Result<Event> {
    Ok(serde_json::from_slice(payload.unwrap_or_default())?)
}
