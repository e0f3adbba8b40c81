//! The topic of checkpoints: for each name, the last one counts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use tokio::task;

use watermill_core::backend::{Failure, Trouble};

use crate::{KafkaPublisherConfig, elsewhere::Elsewhere, error, log::Quiet};

/// Where all checkpoints are: one order for all of them, read from its end at each start.
pub(super) const PARTITION: i32 = 0;

/// The pause between looks at transactions of others that are still open.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many offsets are looked at from the end, and how many times as many where that was too few.
const LOOK_BACK: i64 = 100;
const LOOK_BACK_FACTOR: i64 = 30;

/// Makes the topic, compacted, unless it is there.
pub(super) async fn create_topic(config: &KafkaPublisherConfig, topic: &str) -> Result<(), Failure> {
    let admin: AdminClient<Quiet> =
        config.client().create_with_context(Quiet::default()).map_err(error::classify)?;
    let admin = Elsewhere::new(admin);
    // As many copies as the brokers give to a topic of theirs, unless it is said otherwise.
    let replication = config.create_topics.map_or(-1, |create| create.replication);
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replication))
        .set("cleanup.policy", "compact")
        // Compaction leaves the active segment alone; small ones keep a start short.
        .set("segment.bytes", "16777216");
    let timeout = Some(config.request_timeout);
    let options = AdminOptions::new().operation_timeout(timeout).request_timeout(timeout);
    for result in admin.create_topics([&new], &options).await.map_err(error::classify)? {
        match result {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                let detail = format!("the topic for checkpoints, {topic:?}, could not be created");
                return Err(error::classify_code(code).explained(detail));
            }
        }
    }
    Ok(())
}

/// Reads the last committed checkpoint of a name, once earlier terms of it have been fenced.
pub(super) async fn read(
    config: &KafkaPublisherConfig,
    topic: &str,
    name: &str,
) -> Result<Option<Bytes>, Failure> {
    let reader = Reader {
        client: config.connection(),
        topic: topic.to_owned(),
        name: name.as_bytes().to_vec(),
        request: config.request_timeout,
        // What others have left open ends by then.
        until: now() + config.transaction_timeout() + config.request_timeout,
    };
    match task::spawn_blocking(move || reader.read()).await {
        Ok(read) => read,
        Err(error) => Err(Failure::because(Trouble::Unavailable, error.to_string())),
    }
}

struct Reader {
    client: ClientConfig,
    topic: String,
    name: Vec<u8>,
    request: Duration,
    until: Instant,
}

impl Reader {
    fn read(&self) -> Result<Option<Bytes>, Failure> {
        let end = self.end(&self.consumer("read_uncommitted")?)?;
        let committed = self.consumer("read_committed")?;
        // Our own name has nothing open any more, but another's open transaction hides what is behind it.
        while self.end(&committed)? < end {
            self.wait("another publisher's transaction is open")?;
        }
        // The one that is looked for is among the last, unless others have written much since.
        let mut looked_at = LOOK_BACK;
        loop {
            let from = end.saturating_sub(looked_at);
            match self.last(&committed, from, end)? {
                Some(checkpoint) => return Ok(checkpoint),
                None if from <= 0 => return Ok(None),
                None => looked_at = looked_at.saturating_mul(LOOK_BACK_FACTOR),
            }
        }
    }

    /// The last one from an offset on and before another, if there is one of this name.
    fn last(
        &self,
        consumer: &BaseConsumer<Quiet>,
        from: i64,
        end: i64,
    ) -> Result<Option<Option<Bytes>>, Failure> {
        let from = if from <= 0 { Offset::Beginning } else { Offset::Offset(from) };
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(&self.topic, PARTITION, from).map_err(error::classify)?;
        consumer.assign(&assigned).map_err(error::classify)?;
        let mut last = None;
        loop {
            match consumer.poll(self.request.min(Duration::from_millis(100))) {
                // Others go on writing, for as long as they like. Of this name nothing comes any more.
                Some(Ok(record)) if record.offset() >= end => return Ok(last),
                Some(Ok(record)) => {
                    if record.key() == Some(&self.name) {
                        last = Some(record.payload().map(Bytes::copy_from_slice));
                    }
                    let late = "the topic of checkpoints takes too long to be read";
                    self.unless_over(Failure::because(Trouble::Unavailable, late))?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
                Some(Err(error)) => self.unless_over(error::classify(error))?,
                None => self.unless_over(error::classify_code(Code::OperationTimedOut))?,
            }
        }
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Quiet>, Failure> {
        let mut config = self.client.clone();
        config.set("isolation.level", isolation).set("enable.partition.eof", "true");
        // It joins no group and commits nothing; librdkafka wants a name to assign partitions.
        config.set("group.id", "watermill-checkpoints").set("enable.auto.commit", "false");
        // The end is told by an answer without records, for which a broker would wait for half a second.
        config.set("fetch.wait.max.ms", "10").set("auto.offset.reset", "earliest");
        config.create_with_context(Quiet::default()).map_err(error::classify)
    }

    fn end(&self, consumer: &BaseConsumer<Quiet>) -> Result<i64, Failure> {
        loop {
            match consumer.fetch_watermarks(&self.topic, PARTITION, self.request) {
                Ok((_, end)) => return Ok(end),
                // Brokers hear of a new topic one after another.
                Err(error) => self.unless_over(error::classify(error))?,
            }
            pause();
        }
    }

    fn wait(&self, why: &str) -> Result<(), Failure> {
        self.unless_over(Failure::because(Trouble::Unavailable, why))?;
        pause();
        Ok(())
    }

    fn unless_over(&self, failure: Failure) -> Result<(), Failure> {
        if now() < self.until { Ok(()) } else { Err(failure) }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread that may wait, and not in a test with paused time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a thread that may wait")]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}
