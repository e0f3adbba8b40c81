//! [`KafkaPublisher`].

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use rdkafka::error::KafkaError;
use tokio::sync::OwnedMutexGuard;
use watermill_core::{
    Message, Publisher,
    backend::{self, Calls, Failure, Trouble, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, KafkaPublisherConfig, config, error, marshaler,
    producer::Producer,
    report::Call,
    topic_locks::{Topic, TopicLocks},
    topics,
};

/// Publishes to the topics of a Kafka cluster, idempotently and with the word of all in-sync replicas.
///
/// A call queues all its messages and awaits their reports together, so that calls in progress at once
/// share requests; they keep their order. A message that was not accepted is named by its position.
/// Clones are the same publisher: closing one closes all.
///
/// # Cancel safety
///
/// The messages that were queued before a `publish` future was dropped are published, unless the publisher is closed
/// while brokers do not take them: then they are taken back.
#[derive(Clone)]
pub struct KafkaPublisher(Arc<Shared>);

struct Shared {
    config: KafkaPublisherConfig,
    producer: Producer,
    topic_locks: TopicLocks,
    calls: Calls,
}

impl KafkaPublisher {
    /// A publisher. It connects in the background.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`], and for what librdkafka refuses.
    pub fn new(config: KafkaPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let producer = Producer::new(config.client()).map_err(config::refused_by_client)?;
        let (topic_locks, calls) = (TopicLocks::default(), Calls::default());
        Ok(Self(Arc::new(Shared { config, producer, topic_locks, calls })))
    }
}

impl Shared {
    /// Why a call cannot be made at all.
    fn check(&self, topic: &str, messages: &[Message]) -> Result<(), PublishError> {
        self.calls.check(topic)?;
        config::check_topic(topic)
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        refuse_delays(topic, messages)?;
        for message in messages {
            marshaler::check(message, self.config.message_bytes_max())
                .map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))?;
        }
        Ok(())
    }

    /// Queues the messages behind those of earlier calls to the topic, from this position on.
    async fn enqueue(
        &self,
        topic: &str,
        messages: Vec<Message>,
        call: Arc<Call>,
        from: usize,
        topic_lock: Option<OwnedMutexGuard<Topic>>,
    ) -> Result<(), PublishError> {
        let mut topic_lock = match topic_lock {
            Some(topic_lock) => topic_lock,
            None => self.topic_locks.lock(topic).await,
        };
        match self.config.create_topics {
            Some(create) if !topic_lock.exists() => {
                let made = topics::create(self.config.client(), create, topic, self.config.request_timeout);
                made.await.map_err(|failure| failure.publishing(topic))?;
                topic_lock.found(true);
            }
            // It may have been made this moment, by somebody else.
            None if topic_lock.look() => topic_lock.found(self.producer.has_leaders(topic).await),
            _ => {}
        }
        self.producer.enqueue(&call, topic, &messages, from).await;
        Ok(())
    }

    async fn failure(&self, topic: &str, of: usize, failed: Vec<(usize, KafkaError)>) -> PublishError {
        let positions: Vec<usize> = failed.iter().map(|(at, _)| *at).collect();
        // What was queued behind a refused message is none the worse for it: the call tells of that one.
        let own = failed.iter().position(|(_, error)| !error::is_of_dead_client(error));
        let (_, told) = failed.into_iter().nth(own.unwrap_or_default()).expect("something has failed");
        let mut failure = error::classify(told);
        self.producer.replace_if_dead();
        if own.is_none() {
            failure = failure.with_trouble(Trouble::Unavailable);
        }
        if failure.trouble() == Trouble::Topic {
            failure = self.topic_locks.unknown(topic, failure).await;
        }
        let error = failure.publishing(topic);
        if positions.len() == of { error } else { error.with_not_accepted(positions) }
    }
}

/// A call to [`publish`](Publisher::publish), by hand: a router has thousands of them in progress, each in a box,
/// and what nearly every one needs is a tenth of what an `async fn` would set aside for the others.
struct Publish<'a> {
    shared: &'a Shared,
    topic: &'a str,
    of: usize,
    step: Step<'a>,
    _call: backend::Call,
}

enum Step<'a> {
    Begin(Vec<Message>),
    /// It has to wait before all its messages are queued.
    Queueing(BoxFuture<'a, Result<(), PublishError>>, Arc<Call>),
    /// For the reports.
    Waiting(Arc<Call>),
    Failed(BoxFuture<'a, PublishError>),
}

impl<'a> Publish<'a> {
    fn begin(&self, messages: Vec<Message>) -> Result<Step<'a>, PublishError> {
        let (shared, topic) = (self.shared, self.topic);
        shared.check(topic, &messages)?;
        let call = Call::new(messages.len());
        if messages.is_empty() {
            return Ok(Step::Waiting(call));
        }
        let topic_lock = shared.topic_locks.try_lock(topic);
        let mut from = 0;
        if topic_lock.as_ref().is_some_and(|topic_lock| topic_lock.exists()) {
            from = shared.producer.try_enqueue(&call, topic, &messages);
            if from == messages.len() {
                // librdkafka has copies: what waits for reports needs not be in memory twice.
                return Ok(Step::Waiting(call));
            }
        }
        Ok(Step::Queueing(Box::pin(shared.enqueue(topic, messages, call.clone(), from, topic_lock)), call))
    }
}

impl Future for Publish<'_> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.step = match &mut this.step {
                Step::Begin(messages) => {
                    let messages = mem::take(messages);
                    this.begin(messages)?
                }
                Step::Queueing(queueing, call) => {
                    ready!(queueing.as_mut().poll(cx))?;
                    Step::Waiting(call.clone())
                }
                Step::Waiting(call) => match call.poll_failed(cx) {
                    Poll::Ready(failed) if failed.is_empty() => return Poll::Ready(Ok(())),
                    Poll::Ready(failed) => {
                        Step::Failed(Box::pin(this.shared.failure(this.topic, this.of, failed)))
                    }
                    Poll::Pending => {
                        // A dead client keeps what it has queued, and says nothing of it.
                        if call.has_failed() {
                            this.shared.producer.replace_if_dead();
                        }
                        return Poll::Pending;
                    }
                },
                Step::Failed(failure) => return failure.as_mut().poll(cx).map(Err),
            };
        }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    fn publish<'this, 'topic, 'call>(
        &'this self,
        topic: &'topic str,
        messages: Vec<Message>,
    ) -> BoxFuture<'call, Result<(), PublishError>>
    where
        'this: 'call,
        'topic: 'call,
        Self: 'call,
    {
        let shared = &*self.0;
        let (of, _call) = (messages.len(), shared.calls.in_progress());
        Box::pin(Publish { shared, topic, of, step: Step::Begin(messages), _call })
    }

    fn take_back(&self) {
        self.0.producer.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.0.calls.close().await;
        self.0.producer.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("config", &self.0.config)
            .field("in_flight", &self.0.producer.in_flight())
            .finish()
    }
}
