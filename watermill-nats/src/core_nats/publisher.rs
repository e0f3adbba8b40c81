//! [`CoreNatsPublisher`].

use async_nats::{Client, HeaderMap};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Mutex, task::unconstrained, time::timeout};
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Trouble, records, refuse_delays},
    error::{ConfigError, PublishError},
    publisher::PublisherCapabilities,
};

use super::{BACKEND, CoreNatsConfig};
use crate::{
    error::{connected, connects, of_sending, taken},
    marshaler, subject,
};

/// Publishes to whoever has subscribed just then: `Ok` means that the server has taken the messages, on the connection that
/// they were sent on, and not that anybody got them. While there is no connection, or when it was lost in between, a call
/// fails with a retryable error: its messages may have arrived, and tried again come twice.
pub struct CoreNatsPublisher {
    client: Client,
    config: CoreNatsConfig,
    /// Whose call is being sent. The others wait in their order.
    turn: Mutex<()>,
    calls: Calls,
}

impl CoreNatsPublisher {
    /// A publisher by way of a client, which is connected, and connects again by itself.
    ///
    /// # Errors
    ///
    /// As [`CoreNatsConfig::validate`].
    pub fn new(client: Client, config: CoreNatsConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { client, config, turn: Mutex::default(), calls: Calls::default() })
    }

    async fn send(&self, topic: &str, records: Vec<(HeaderMap, Bytes)>) -> Result<(), Failure> {
        connected(&self.client)?;
        let connects_before = connects(&self.client);
        for (headers, payload) in records {
            let sent = self.client.publish_with_headers(topic.to_owned(), headers, payload);
            sent.await.map_err(of_sending)?;
        }
        taken(&self.client, self.config.timeout).await?;
        // An answer on another connection says nothing of what was sent on the one before.
        if connects(&self.client) == connects_before {
            return Ok(());
        }
        let why = "the connection was lost and is there again, and nobody knows what of the call has arrived";
        Err(Failure::because(Trouble::Unavailable, why))
    }
}

#[async_trait]
impl Publisher for CoreNatsPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        subject::check(topic).map_err(|failure| failure.publishing(topic))?;
        refuse_delays(topic, &messages)?;
        let bytes_max = self.client.max_payload();
        let records = records(topic, messages, |message| marshaler::write(message, false, bytes_max))?;
        let sending = async {
            // The first poll takes a place behind the calls before, whatever is left of the task's budget.
            let _turn = unconstrained(self.turn.lock()).await;
            self.send(topic, records).await
        };
        let late =
            |_| Err(Failure::because(Trouble::Timeout, "the server has not taken the messages in time"));
        let sent = timeout(self.config.timeout, sending).await.unwrap_or_else(late);
        sent.map_err(|failure| failure.publishing(topic))
    }

    /// The client is its owner's, and goes on.
    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl std::fmt::Debug for CoreNatsPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreNatsPublisher").field("config", &self.config).finish_non_exhaustive()
    }
}
