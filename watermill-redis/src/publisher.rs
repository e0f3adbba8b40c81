//! [`RedisPublisher`].

use std::time::Duration;

use async_trait::async_trait;
use redis::{Client, Pipeline};
use watermill_core::{
    Message, Publisher,
    backend::{Calls, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, RedisPublisherConfig,
    connection::{Connection, connection},
    marshaler,
};

/// Appends to streams: the topic is the key of one.
///
/// A call is one transaction (`MULTI`), so that all of its messages are there or none, next to each other.
/// Calls share one connection and do not wait for each other.
#[derive(Debug)]
pub struct RedisPublisher {
    config: RedisPublisherConfig,
    connection: Connection,
    calls: Calls,
}

impl RedisPublisher {
    /// A publisher by way of a client, which knows the server, how to log in, and TLS. Nothing is sent before the
    /// first call.
    ///
    /// # Errors
    ///
    /// As [`RedisPublisherConfig::validate`].
    pub fn new(client: Client, config: RedisPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let connection = connection(client, config.timeout, Duration::ZERO);
        Ok(Self { config, connection, calls: Calls::default() })
    }

    fn transaction(&self, topic: &str, messages: Vec<Message>) -> Result<Pipeline, PublishError> {
        let mut transaction = Pipeline::with_capacity(messages.len());
        transaction.atomic();
        for (at, message) in messages.into_iter().enumerate() {
            let fields = marshaler::write(message, self.config.value_bytes_max).map_err(|why| {
                PublishError::new(PublishErrorKind::Message, topic).because(format!("message {at}: {why}"))
            })?;
            transaction.cmd("XADD").arg(topic);
            if let Some(length_max) = self.config.stream_length_max {
                transaction.arg("MAXLEN").arg("~").arg(length_max);
            }
            transaction.arg("*");
            for (name, value) in fields {
                transaction.arg(name).arg(&*value);
            }
            transaction.ignore();
        }
        Ok(transaction)
    }
}

#[async_trait]
impl Publisher for RedisPublisher {
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
