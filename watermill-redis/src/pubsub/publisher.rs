//! [`RedisPubSubPublisher`].

use std::time::Duration;

use async_trait::async_trait;
use redis::{Client, Pipeline};
use watermill_core::{
    Message, Publisher,
    backend::{Calls, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use super::{BACKEND, RedisPubSubPublisherConfig, marshaler};
use crate::connection::{Connection, connection};

/// Publishes to channels: the topic is the name of one. Whoever does not listen just then never gets it.
///
/// A call is one transaction (`MULTI`), so that its messages come next to each other. Calls share one connection and do not
/// wait for each other.
#[derive(Debug)]
pub struct RedisPubSubPublisher {
    config: RedisPubSubPublisherConfig,
    connection: Connection,
    calls: Calls,
}

impl RedisPubSubPublisher {
    /// A publisher by way of a client, which knows the server, how to log in, and TLS. Nothing is sent before the
    /// first call.
    ///
    /// # Errors
    ///
    /// As [`RedisPubSubPublisherConfig::validate`].
    pub fn new(client: Client, config: RedisPubSubPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let connection = connection(client, config.timeout, Duration::ZERO);
        Ok(Self { config, connection, calls: Calls::default() })
    }

    fn transaction(&self, topic: &str, messages: Vec<Message>) -> Result<Pipeline, PublishError> {
        let mut transaction = Pipeline::with_capacity(messages.len());
        transaction.atomic();
        for (at, message) in messages.into_iter().enumerate() {
            let frame = marshaler::write(message, self.config.value_bytes_max).map_err(|why| {
                PublishError::new(PublishErrorKind::Message, topic).because(format!("message {at}: {why}"))
            })?;
            transaction.cmd("PUBLISH").arg(topic).arg(frame).ignore();
        }
        Ok(transaction)
    }
}

#[async_trait]
impl Publisher for RedisPubSubPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        refuse_delays(topic, &messages)?;
        let transaction = self.transaction(topic, messages)?;
        let published =
            self.connection.call(async |mut connection| transaction.exec_async(&mut connection).await);
        published.await.map_err(|failure| failure.publishing(topic))
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true).atomic(true)
    }
}
