//! [`KafkaFencedPublisher`]: batches with checkpoints, fenced by Kafka.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::producer::BaseRecord;
use watermill_core::{
    Message,
    backend::{Failure, Trouble},
    error::{ConfigError, PublishError, PublishErrorKind},
    fenced::{Commit, FencedPublisher, Outgoing, Term},
};

use super::{
    checkpoint::{self, PARTITION},
    producer::{Refusal, Transactions},
};
use crate::{
    BACKEND, KafkaPublisherConfig, config, marshaler, producer::record, report::Call, topic_locks::TopicLocks,
};

/// The topic of checkpoints unless said otherwise.
const CHECKPOINT_TOPIC: &str = "watermill_checkpoints";

/// Publishes batches, each with a checkpoint in one transaction of Kafka.
///
/// The name of a term is its transactional id, and with `~2` behind it a second one: two producers take turns, so that a
/// transaction is filled while the one before is committed, and none waits until the brokers are through with the last of its
/// own. Where access is by lists, both ids are to be allowed. Beginning a term fences both of the one before, ends what they had
/// left open, and reads the last checkpoint. A relay that was paused and wakes up publishes nothing.
///
/// Checkpoints are records of a compacted topic with one partition, made when it is missing; the key is
/// the name. Consumers must read what is committed: librdkafka's default, not that of every client.
#[derive(Clone)]
pub struct KafkaFencedPublisher {
    config: KafkaPublisherConfig,
    checkpoint_topic: String,
    topic_locks: Arc<TopicLocks>,
}

impl KafkaFencedPublisher {
    /// A publisher. It connects when a term begins.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`].
    pub fn new(config: KafkaPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, checkpoint_topic: CHECKPOINT_TOPIC.to_owned(), topic_locks: Arc::default() })
    }

    /// Keeps checkpoints in another topic than `watermill_checkpoints`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a name that Kafka does not allow.
    pub fn with_checkpoint_topic(mut self, topic: impl Into<String>) -> Result<Self, ConfigError> {
        self.checkpoint_topic = topic.into();
        config::check_checkpoint_topic(&self.checkpoint_topic)?;
        Ok(self)
    }
}

#[async_trait]
impl FencedPublisher for KafkaFencedPublisher {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        config::check_transactional_id(name)
            .map_err(|error| PublishError::new(PublishErrorKind::Refused, name).with_source(error))?;
        let begun = async {
            // Whoever takes over is waited for: what need not come one after another does not.
            let second = second(name);
            let ((), first, second) = tokio::try_join!(
                checkpoint::create_topic(&self.config, &self.checkpoint_topic),
                Transactions::begin_term(&self.config, name, &self.topic_locks),
                Transactions::begin_term(&self.config, &second, &self.topic_locks),
            )?;
            // After the fences: what is read before them may be overtaken.
            let checkpoint = checkpoint::read(&self.config, &self.checkpoint_topic, name).await?;
            Ok(KafkaTerm {
                producers: Some([first, second].map(Arc::new)),
                sent: 0,
                committed: Arc::default(),
                checkpoint,
                name: name.to_owned(),
                checkpoint_topic: self.checkpoint_topic.clone(),
                config: self.config.clone(),
                topic_locks: self.topic_locks.clone(),
            })
        };
        let term = begun.await.map_err(|failure: Failure| failure.publishing(name))?;
        Ok(Box::new(term))
    }

    fn backend(&self) -> &'static str {
        BACKEND
    }
}

impl fmt::Debug for KafkaFencedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaFencedPublisher")
            .field("config", &self.config)
            .field("checkpoint_topic", &self.checkpoint_topic)
            .finish()
    }
}

/// The other transactional id of a name.
fn second(name: &str) -> String {
    format!("{name}~2")
}

struct KafkaTerm {
    /// They take turns. Gone with the first error.
    producers: Option<[Arc<Transactions>; 2]>,
    /// How many transactions were sent, and how many of them are committed, or [`OVER`].
    sent: u64,
    committed: Arc<AtomicU64>,
    checkpoint: Option<Bytes>,
    name: String,
    checkpoint_topic: String,
    config: KafkaPublisherConfig,
    topic_locks: Arc<TopicLocks>,
}

/// A commit has failed.
const OVER: u64 = u64::MAX;

#[async_trait]
impl Term for KafkaTerm {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref()
    }

    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        // Out of its place: dropped in the middle, it leaves no transaction to be gone on with.
        let producers = self.producers.take().filter(|_| self.committed.load(Ordering::Acquire) != OVER);
        let Some(producers) = producers else {
            return Err(unavailable(&self.name, "the term is over since its last error; begin another"));
        };
        self.check(&batch)?;
        let turn = self.sent;
        let producer = Arc::clone(&producers[usize::from(turn % 2 == 1)]);
        if self.committed.load(Ordering::Acquire) + 1 < turn {
            return Err(unavailable(&self.name, "the commit before the last one has not ended"));
        }
        for Outgoing { topic, .. } in &batch {
            producer.make(topic).await.map_err(|failure| failure.publishing(topic))?;
        }
        // All that was sent before is accepted: what comes now is behind it in each partition.
        let call = self.send(&producer, &batch, &checkpoint).await?;
        (self.producers, self.sent) = (Some(producers), turn + 1);
        let (committed, name) = (Arc::clone(&self.committed), self.name.clone());
        Ok(Commit::new(async move {
            if committed.load(Ordering::Acquire) != turn {
                return Err(unavailable(&name, "the commit before this one has not succeeded"));
            }
            let ended = producer.commit(&call).await;
            committed.store(if ended.is_ok() { turn + 1 } else { OVER }, Ordering::Release);
            ended.map_err(|refusal| refusal.failure.publishing(&name))
        }))
    }
}

fn unavailable(name: &str, why: &str) -> PublishError {
    PublishError::new(PublishErrorKind::Unavailable, name).because(why)
}

impl KafkaTerm {
    fn check(&self, batch: &[Outgoing]) -> Result<(), PublishError> {
        for Outgoing { topic, messages } in batch {
            config::check_topic(topic)
                .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
            for message in messages {
                marshaler::check(message, self.config.message_bytes_max()).map_err(|problem| {
                    PublishError::new(PublishErrorKind::Message, &**topic).because(problem)
                })?;
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        producer: &Transactions,
        batch: &[Outgoing],
        checkpoint: &Bytes,
    ) -> Result<Arc<Call>, PublishError> {
        let messages: Vec<(&str, &Message)> = flattened(batch);
        let checkpoint = |call: &Arc<Call>| {
            BaseRecord::with_opaque_to(&self.checkpoint_topic, call.report(messages.len()))
                .partition(PARTITION)
                .key(self.name.as_bytes())
                .payload(&checkpoint[..])
        };
        let sent = producer.send(messages.len() + 1, |at, call| match messages.get(at) {
            Some((topic, message)) => record(call, topic, at, message),
            None => checkpoint(call),
        });
        let Refusal { at, failure, .. } = match sent.await {
            Ok(call) => {
                for Outgoing { topic, .. } in batch {
                    self.topic_locks.lock(topic).await.found(true);
                }
                return Ok(call);
            }
            Err(refusal) => refusal,
        };
        let topic = match at.first() {
            Some(at) => messages.get(*at).map_or(&*self.checkpoint_topic, |(topic, _)| *topic),
            None => &self.name,
        };
        let failure = match failure.trouble() {
            Trouble::Topic => self.topic_locks.unknown(topic, failure).await,
            _ => failure,
        };
        let blames = failure.trouble() == Trouble::Message && at.len() == 1 && at[0] < messages.len();
        let error = failure.publishing(topic);
        Err(if blames { error.with_not_accepted(at) } else { error })
    }
}

fn flattened(batch: &[Outgoing]) -> Vec<(&str, &Message)> {
    let mut all = Vec::with_capacity(batch.iter().map(|outgoing| outgoing.messages.len()).sum());
    for Outgoing { topic, messages } in batch {
        all.extend(messages.iter().map(|message| (&**topic, message)));
    }
    all
}
