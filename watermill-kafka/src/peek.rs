//! Messages that are looked at without being consumed.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
    topic_partition_list::{Offset, TopicPartitionList},
    types::RDKafkaErrorCode as Code,
};
use watermill_core::{
    Message,
    backend::{Failure, Trouble},
};

use crate::{
    KafkaSubscriberConfig,
    config::check_topic,
    log::Quiet,
    marshaler,
    topics::{self, Scout},
};

/// How many messages are shown at once.
const PEEKED_MAX: usize = 1_000;

/// How many bytes of payloads, but for one message that may be larger.
const PEEKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Of the client, which has to have a group to read, and does not join it.
pub(crate) const GROUP: &str = "watermill-peek";

/// A message that was looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeekedMessage {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was published, or when the broker has written it, by the topic's `message.timestamp.type`.
    pub published_at: Option<SystemTime>,
    /// The message. It keeps nothing of the client that has fetched it.
    pub message: Message,
}

/// Where to look.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) from: i64,
}

/// The messages from a place on, up to the end that the partition has now.
pub(crate) async fn look(
    config: &KafkaSubscriberConfig,
    place: Place,
    limit: usize,
) -> Result<Vec<PeekedMessage>, Failure> {
    check_topic(&place.topic).map_err(|problem| Failure::because(Trouble::Topic, problem))?;
    let limit = limit.min(PEEKED_MAX);
    let mut client = config.scout(GROUP);
    // Where messages end cannot be told by their offsets, which have gaps.
    client.set("enable.partition.eof", "true").set("queued.min.messages", limit.max(1).to_string());
    client.set("queued.max.messages.kbytes", "1024");
    let scout = Scout::of(&client, config.request_timeout)?;
    let partitions = scout.partitions(&place.topic).await?.ok_or_else(|| topics::missing(&place.topic))?;
    if !(0..partitions).contains(&place.partition) {
        let detail = format!("there is no partition {} among its {partitions}", place.partition);
        return Err(Failure::because(Trouble::Topic, detail));
    }
    scout.ask(move |consumer, timeout| read(consumer, &place, limit, timeout)).await
}

/// Reads up to the end, or until there are enough; blocks, for no longer than `timeout` between two messages.
fn read(
    consumer: &BaseConsumer<Quiet>,
    Place { topic, partition, from }: &Place,
    limit: usize,
    timeout: Duration,
) -> Result<Vec<PeekedMessage>, KafkaError> {
    let (oldest, end) = consumer.fetch_watermarks(topic, *partition, timeout)?;
    let from = (*from).max(oldest);
    let mut peeked = Vec::new();
    if from >= end || limit == 0 {
        return Ok(peeked);
    }
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, *partition, Offset::Offset(from))?;
    consumer.assign(&places)?;
    let mut bytes = 0;
    while peeked.len() < limit && bytes < PEEKED_BYTES_MAX {
        match consumer.poll(timeout) {
            Some(Ok(record)) => {
                let offset = record.offset();
                if offset < end {
                    bytes += record.payload_len();
                    peeked.push(PeekedMessage::of(&record));
                }
                if offset + 1 >= end {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::MessageConsumption(Code::OperationTimedOut)),
        }
    }
    Ok(peeked)
}

impl PeekedMessage {
    fn of(record: &BorrowedMessage<'_>) -> Self {
        let (id, key, metadata) = marshaler::read(record);
        let payload = record.payload();
        let mut message = Message::with_id(id, Bytes::copy_from_slice(payload.unwrap_or_default()));
        message.set_key(key);
        *message.metadata_mut() = metadata;
        if payload.is_none() {
            message = message.without_value();
        }
        let millis = record.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
        let published_at = millis.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        Self { partition: record.partition(), offset: record.offset(), published_at, message }
    }
}
