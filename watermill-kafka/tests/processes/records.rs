//! [`Records`]: what a reader sees in the topic that processes write to.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::time::{Instant, sleep};
use watermill_core::Subscriber as _;
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{Service, patience};

use crate::Result;

const REQUEST: Duration = Duration::from_secs(10);

/// A topic of one partition whose records are numbers.
pub(crate) struct Records {
    pub(crate) topic: String,
    reader: BaseConsumer,
}

/// Makes a topic.
pub(crate) async fn make_topic(topic: &str, partitions: i32) -> Result {
    let config = KafkaSubscriberConfig::new(Service::KAFKA.url());
    let maker = KafkaSubscriber::new(config.create_topics(CreateTopics::new(partitions, 1)))?;
    Ok(maker.initialize(topic).await?)
}

impl Records {
    /// Makes the topic.
    pub(crate) async fn of(topic: String) -> Result<Self> {
        make_topic(&topic, 1).await?;
        let reader = ClientConfig::new()
            .set("bootstrap.servers", Service::KAFKA.url())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .create()?;
        Ok(Self { topic, reader })
    }

    /// Waits until there are so many more, committed or not, or as many as `all`.
    pub(crate) async fn wait_for_more(&self, records: i64, all: usize) -> Result {
        self.wait_for(i64::try_from(all)?.min(self.end()? + records)).await
    }

    /// Waits until there are as many, committed or not.
    pub(crate) async fn wait_for_all(&self, records: usize) -> Result {
        self.wait_for(i64::try_from(records)?).await
    }

    /// The numbers that a reader of what is committed sees, once there are as many, and what comes in the second
    /// after.
    pub(crate) async fn committed(&self, records: usize) -> Result<Vec<usize>> {
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, 0, Offset::Beginning)?;
        self.reader.assign(&from)?;
        let (mut numbers, until) = (Vec::new(), Instant::now() + 4 * patience());
        let mut grace = None;
        while grace.is_none_or(|grace| Instant::now() < grace) {
            if Instant::now() > until {
                return Err(format!("{} of {records} records were committed", numbers.len()).into());
            }
            match self.reader.poll(Duration::ZERO) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => sleep(Duration::from_millis(5)).await,
                Some(record) => {
                    numbers.push(std::str::from_utf8(record?.payload().unwrap_or_default())?.parse()?);
                }
            }
            if numbers.len() >= records {
                grace.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
            }
        }
        Ok(numbers)
    }

    async fn wait_for(&self, end: i64) -> Result {
        let until = Instant::now() + 4 * patience();
        while self.end()? < end {
            if Instant::now() > until {
                return Err(format!("the topic has {} records and not {end}", self.end()?).into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn end(&self) -> Result<i64> {
        Ok(self.reader.fetch_watermarks(&self.topic, 0, REQUEST)?.1)
    }
}

/// Sees to it that each number is there once, and that those of a key, of which there are so many, are in order.
pub(crate) fn assert_once_and_in_order(numbers: &[usize], messages: usize, keys: usize) {
    for key in 0..keys {
        let of_key: Vec<usize> = numbers.iter().copied().filter(|number| number % keys == key).collect();
        let expected: Vec<usize> = (key..messages).step_by(keys).collect();
        let at = of_key.iter().zip(&expected).position(|(number, expected)| number != expected);
        assert_eq!(at, None, "key {key}: {} of {}, see position {at:?}", of_key.len(), expected.len());
        assert_eq!(of_key.len(), expected.len(), "key {key}");
    }
    assert_eq!(numbers.len(), messages);
}
