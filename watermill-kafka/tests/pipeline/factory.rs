//! [`Factory`]: the topics of the pipeline, and what a reader sees in them.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::time::{Instant, sleep};
use watermill_core::{Message, Publisher as _, Subscriber as _};
use watermill_kafka::{
    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{Service, patience, unique};

use crate::Result;

const PARTITIONS: i32 = 6;
const REQUEST: Duration = Duration::from_secs(10);

pub(crate) struct Factory {
    input: String,
    output: String,
    messages: usize,
    reader: BaseConsumer,
}

/// The topic that goes with an input.
pub(crate) fn output(input: &str) -> String {
    format!("{input}_done")
}

impl Factory {
    /// Puts numbered messages into an input of its own, over so many keys.
    pub(crate) async fn open(messages: usize, keys: usize) -> Result<Self> {
        let input = unique("parts");
        let output = output(&input);
        for (topic, partitions) in [(&input, PARTITIONS), (&output, 1)] {
            let config = KafkaSubscriberConfig::new(Service::KAFKA.url());
            let maker = KafkaSubscriber::new(config.create_topics(CreateTopics::new(partitions, 1)))?;
            maker.initialize(topic).await?;
        }
        let reader = ClientConfig::new()
            .set("bootstrap.servers", Service::KAFKA.url())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .create()?;
        let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(Service::KAFKA.url()))?;
        let message = |number: usize| Message::new(number.to_string()).with_key((number % keys).to_string());
        publisher.publish(&input, (0..messages).map(message).collect()).await?;
        Ok(Self { input, output, messages, reader })
    }

    pub(crate) fn input(&self) -> &str {
        &self.input
    }

    /// Waits until the output has so many records more, committed or not, as long as there may be as many.
    pub(crate) async fn wait_for_more(&self, records: i64) -> Result {
        let all = i64::try_from(self.messages)?;
        self.wait_for(all.min(self.end()? + records)).await
    }

    /// Waits until it must have all: with at least a record for each message.
    pub(crate) async fn wait_for_all(&self) -> Result {
        self.wait_for(i64::try_from(self.messages)?).await
    }

    /// The numbers that a reader of what is committed sees, once there are as many, and what comes in the second
    /// after.
    pub(crate) async fn outputs(&self) -> Result<Vec<usize>> {
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.output, 0, Offset::Beginning)?;
        self.reader.assign(&from)?;
        let (mut numbers, until) = (Vec::new(), Instant::now() + 4 * patience());
        let mut grace = None;
        while grace.is_none_or(|grace| Instant::now() < grace) {
            if Instant::now() > until {
                return Err(format!("{} of {} outputs were committed", numbers.len(), self.messages).into());
            }
            match self.reader.poll(Duration::ZERO) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => sleep(Duration::from_millis(5)).await,
                Some(record) => {
                    numbers.push(std::str::from_utf8(record?.payload().unwrap_or_default())?.parse()?);
                }
            }
            if numbers.len() >= self.messages {
                grace.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
            }
        }
        Ok(numbers)
    }

    async fn wait_for(&self, end: i64) -> Result {
        let until = Instant::now() + 4 * patience();
        while self.end()? < end {
            if Instant::now() > until {
                return Err(format!("the output has {} records and not {end}", self.end()?).into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn end(&self) -> Result<i64> {
        Ok(self.reader.fetch_watermarks(&self.output, 0, REQUEST)?.1)
    }
}
