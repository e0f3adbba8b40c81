//! [`Shop`]: an outbox in SQLite, and the topic that its events go to.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use watermill_core::{Message, Publisher as _, Subscriber as _};
use watermill_forwarder::{DEFAULT_TOPIC, ForwarderPublisher};
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Service, patience, unique};

use crate::Result;

/// Messages of one call.
const CALL: usize = 500;
const REQUEST: Duration = Duration::from_secs(10);

pub(crate) struct Shop {
    folder: TempDir,
    pool: SqlitePool,
    topic: String,
    reader: BaseConsumer,
}

/// Longer than anybody who is awake keeps the database locked.
const BUSY: Duration = Duration::from_secs(30);

pub(crate) async fn connect(database: &Path) -> Result<SqlitePool> {
    connect_waiting(database, BUSY).await
}

async fn connect_waiting(database: &Path, busy: Duration) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(busy);
    Ok(SqlitePool::connect_with(options).await?)
}

pub(crate) fn outbox(pool: SqlitePool) -> Result<SqlSubscriber<Sqlite>> {
    let config = SqlSubscriberConfig::default().group("relay").lease(Duration::from_secs(1));
    Ok(SqlSubscriber::new(pool, config)?)
}

impl Shop {
    pub(crate) async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pool = connect(&folder.path().join("shop.db")).await?;
        outbox(pool.clone())?.initialize(DEFAULT_TOPIC).await?;
        let topic = unique("orders");
        let config = KafkaSubscriberConfig::new(Service::KAFKA.url()).create_topics(CreateTopics::new(1, 1));
        KafkaSubscriber::new(config)?.initialize(&topic).await?;
        let reader = ClientConfig::new()
            .set("bootstrap.servers", Service::KAFKA.url())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        Ok(Self { folder, pool, topic, reader })
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Puts numbered messages into the outbox, over so many keys.
    pub(crate) async fn publish(&self, numbers: Range<usize>, keys: usize) -> Result {
        let publisher = SqlPublisher::new(self.pool.clone(), SqlPublisherConfig::default())?;
        let outbox = ForwarderPublisher::new(publisher);
        let message = |number: usize| Message::new(number.to_string()).with_key((number % keys).to_string());
        for start in numbers.clone().step_by(CALL) {
            let messages = (start..numbers.end.min(start + CALL)).map(message).collect();
            outbox.publish(&self.topic, messages).await?;
        }
        Ok(())
    }

    /// Whether nobody has the database locked, or gives it back soon.
    pub(crate) async fn is_writable(&self) -> Result<bool> {
        let pool = connect_waiting(&self.database(), Duration::from_millis(200)).await?;
        let locked = sqlx::query("begin immediate").execute(&pool).await;
        // What it has begun ends with its connection.
        pool.close().await;
        Ok(locked.is_ok())
    }

    /// Waits until the topic has so many records more, committed or not.
    pub(crate) async fn wait_for_more(&self, records: i64) -> Result {
        self.wait_for(self.end()? + records).await
    }

    /// Waits until it must have all messages: with at least a record for each.
    pub(crate) async fn wait_for_all(&self, messages: usize) -> Result {
        self.wait_for(i64::try_from(messages)?).await
    }

    /// The numbers that a reader of what is committed sees, once there are as many, and what comes in the
    /// second after.
    pub(crate) async fn published(&self, messages: usize) -> Result<Vec<usize>> {
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, 0, Offset::Beginning)?;
        self.reader.assign(&from)?;
        let (mut numbers, until) = (Vec::new(), Instant::now() + 4 * patience());
        let mut grace = None;
        while grace.is_none_or(|grace| Instant::now() < grace) {
            if Instant::now() > until {
                return Err(format!("{} of {messages} messages were published", numbers.len()).into());
            }
            match self.reader.poll(Duration::ZERO) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => sleep(Duration::from_millis(5)).await,
                Some(record) => {
                    numbers.push(std::str::from_utf8(record?.payload().unwrap_or_default())?.parse()?)
                }
            }
            if numbers.len() >= messages {
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
