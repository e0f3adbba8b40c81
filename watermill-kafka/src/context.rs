//! [`Context`]: what librdkafka calls back for, on the thread that serves the client. It hands on what it is told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionList,
    types::RDKafkaRespErr,
};

use crate::{lag::Measured, log::Log, silence::Silence};

/// The callbacks of a client that reads.
pub(crate) struct Context {
    /// There from before the first callback that is for it.
    member: OnceLock<Arc<dyn Member>>,
    /// Whether a callback was called: an event that librdkafka handles looks like none from outside.
    handled: AtomicBool,
    /// By topic and partition.
    measured: Mutex<HashMap<(String, i32), Measured>>,
    pub(crate) silence: Silence,
    pub(crate) log: Log,
}

/// What a group tells its member.
pub(crate) trait Member: Send + Sync {
    /// These partitions are to be read.
    fn assigned(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: &mut TopicPartitionList,
    ) -> KafkaResult<()>;

    /// These are to be given up.
    fn revoked(&self, consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) -> KafkaResult<()>;

    /// One of the two has failed.
    fn failed(&self, error: &KafkaError);
}

impl Context {
    pub(crate) fn new(session: Duration) -> Self {
        Self {
            member: OnceLock::new(),
            handled: AtomicBool::new(false),
            measured: Mutex::default(),
            silence: Silence::new(session),
            log: Log::default(),
        }
    }

    pub(crate) fn tell(&self, member: Arc<dyn Member>) {
        let _ = self.member.set(member);
    }

    /// Whether a callback was called since the last time.
    pub(crate) fn take_handled(&self) -> bool {
        self.handled.swap(false, Ordering::Relaxed)
    }

    fn handled(&self) {
        self.handled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn measured(&self, topic: &str, partition: i32) -> Option<Measured> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.get(&(topic.to_owned(), partition)).copied()
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        why: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.handled();
        let Some(member) = self.member.get() else { return };
        let done = if why == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            member.assigned(consumer, partitions)
        } else {
            member.revoked(consumer, partitions)
        };
        if let Err(error) = done {
            tracing::error!(%error, "a rebalance could not be followed");
            member.failed(&error);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.handled();
        self.log.line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.handled();
        self.silence.note(&statistics.brokers);
        let measured = statistics.topics.values().flat_map(|topic| {
            topic.partitions.values().map(|partition| {
                let measured = Measured {
                    oldest: partition.lo_offset,
                    end: partition.ls_offset,
                    committed: partition.committed_offset,
                };
                ((topic.topic.clone(), partition.partition), measured)
            })
        });
        let measured = measured.collect();
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = measured;
    }

    /// The client's poll returns it too, and subscriptions tell it.
    fn error(&self, error: KafkaError, reason: &str) {
        self.handled();
        self.log.error(&error, reason);
    }
}
