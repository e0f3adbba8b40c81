//! [`KafkaPublisher`].

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, ConfigError, KafkaPublisherConfig, config,
    error::{Failure, Trouble},
    marshaler,
};

/// The pause before a full queue is looked at again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// Publishes to the topics of a Kafka cluster, idempotently and with the word of all in-sync replicas.
///
/// Clones are the same publisher: closing one closes all.
#[derive(Clone)]
pub struct KafkaPublisher {
    producer: FutureProducer,
    closed: CancellationToken,
    calls: TaskTracker,
}

impl KafkaPublisher {
    /// A publisher. It connects in the background.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaPublisherConfig::validate`], and for what librdkafka refuses.
    pub fn new(config: KafkaPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let producer = config.client().create().map_err(config::refused_by_client)?;
        Ok(Self { producer, closed: CancellationToken::new(), calls: TaskTracker::new() })
    }

    /// Hands one message to the client; the report is awaited by what this returns.
    async fn send(
        &self,
        topic: &str,
        message: &Message,
    ) -> Result<impl Future<Output = Result<(), KafkaError>>, KafkaError> {
        let headers = marshaler::headers(message)
            .map_err(|_| KafkaError::MessageProduction(RDKafkaErrorCode::BadMessage))?;
        let mut record = FutureRecord::to(topic).payload(&message.payload()[..]).headers(headers);
        record.key = message.key().map(|key| &key[..]);
        loop {
            match self.producer.send_result(record) {
                Ok(report) => {
                    return Ok(async move {
                        match report.await {
                            Ok(Ok(_)) => Ok(()),
                            Ok(Err((error, _))) => Err(error),
                            Err(_) => Err(KafkaError::Canceled),
                        }
                    });
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let _call = self.calls.token();
        if self.closed.is_cancelled() {
            return Err(PublishError::closed(topic));
        }
        config::check_topic(topic)
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        for message in &messages {
            marshaler::headers(message)
                .map_err(|problem| PublishError::new(PublishErrorKind::Message, topic).because(problem))?;
        }
        let mut reports = Vec::with_capacity(messages.len());
        for message in &messages {
            reports.push(self.send(topic, message).await);
        }
        let results = join_all(reports.into_iter().map(async |sent| match sent {
            Ok(report) => report.await,
            Err(error) => Err(error),
        }))
        .await;
        let accepted = results.iter().filter(|result| result.is_ok()).count();
        let (mut positions, mut first) = (Vec::new(), None);
        for (at, error) in
            results.into_iter().enumerate().filter_map(|(at, result)| Some((at, result.err()?)))
        {
            positions.push(at);
            first.get_or_insert(error);
        }
        let Some(error) = first else { return Ok(()) };
        let error = Failure::of(error).publishing(topic);
        Err(if accepted == 0 { error } else { error.with_not_accepted(positions) })
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.closed.cancel();
        self.calls.close();
        self.calls.wait().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("in_flight", &self.producer.in_flight_count())
            .finish_non_exhaustive()
    }
}
