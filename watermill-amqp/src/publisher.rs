//! [`AmqpPublisher`].

use std::time::Duration;

use async_trait::async_trait;
use watermill_core::{
    Message, Publisher,
    backend::{Calls, SharedConnection, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    AmqpPublisherConfig, BACKEND,
    config::Server,
    connection::{Blocked, ToServer},
    error::Fault,
    line::{Route, ToLine},
    marshaler::{self, Record},
};

/// Publishes to the exchange of a topic, with publisher confirms.
///
/// Calls share one channel of a connection of their own and do not wait for each other. Which messages of a call were
/// accepted is known one by one.
#[derive(Debug)]
pub struct AmqpPublisher {
    config: AmqpPublisherConfig,
    connection: SharedConnection<ToLine>,
    blocked: Blocked,
    calls: Calls,
}

impl AmqpPublisher {
    /// A publisher. Nothing connects before the first call.
    ///
    /// # Errors
    ///
    /// As [`AmqpPublisherConfig::validate`].
    pub fn new(config: AmqpPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let blocked = Blocked::default();
        let connection = line(&config.server, "watermill publisher", config.confirm_timeout, blocked.clone());
        Ok(Self { config, connection, blocked, calls: Calls::default() })
    }

    /// Connects now, and not with the first call: for a service that looks at its start whether it may log in.
    ///
    /// # Errors
    ///
    /// As a call that finds no connection. The error names no topic.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn connect(&self) -> Result<(), PublishError> {
        if self.calls.is_closed() {
            return Err(PublishError::closed(""));
        }
        self.connection.call(|_| async { Ok(()) }).await.map_err(|failure| failure.publishing(""))
    }

    /// Why the server has blocked whoever publishes (short of memory or disk), if it has: for a health page. Calls
    /// fail meanwhile with a retryable error, and those that were on their way wait.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.reason()
    }

    fn records(&self, topic: &str, messages: &[Message]) -> Result<Vec<Record>, PublishError> {
        let AmqpPublisherConfig { persistent, payload_bytes_max, .. } = self.config;
        let record = |(at, message)| {
            marshaler::write(message, persistent, payload_bytes_max).map_err(|why| {
                PublishError::new(PublishErrorKind::Message, topic).because(format!("message {at}: {why}"))
            })
        };
        messages.iter().enumerate().map(record).collect()
    }

    fn route(&self, topic: &str) -> Route {
        let topology = &self.config.topology;
        Route {
            exchange: topology.exchange_of(topic),
            routing_key: topology.routing_key_of(topic),
            mandatory: self.config.mandatory,
            declares: topology.declares,
            may_die: topology.has_dead_letters(),
        }
    }
}

/// A line that is made when it is needed.
pub(crate) fn line(
    server: &Server,
    name: &'static str,
    confirm_timeout: Duration,
    blocked: Blocked,
) -> SharedConnection<ToLine> {
    let timeout = server.timeout;
    SharedConnection::new(ToLine {
        server: ToServer::new(server.clone(), name, blocked),
        timeout,
        confirm_timeout,
    })
}

#[async_trait]
impl Publisher for AmqpPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        refuse_delays(topic, &messages)?;
        let records = self.records(topic, &messages)?;
        if let Some(reason) = self.blocked() {
            return Err(PublishError::new(PublishErrorKind::Unavailable, topic)
                .because(format!("the server has blocked who publishes ({reason}); nothing was sent")));
        }
        let (of, route) = (messages.len(), self.route(topic));
        let mut not_accepted = None;
        let positions = &mut not_accepted;
        let published = self.connection.call(|line| async move {
            let published = line.publish(route, messages, records).await;
            if let Err(Fault::Partly { positions: some, .. }) = &published {
                *positions = (some.len() < of).then(|| some.clone());
            }
            published
        });
        published.await.map_err(|failure| match not_accepted {
            Some(positions) => failure.publishing(topic).with_not_accepted(positions),
            None => failure.publishing(topic),
        })
    }

    /// Waits for the calls in progress, each of which ends within `confirm_timeout`, and closes the connection.
    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        if let Some(line) = self.connection.release().await {
            line.close().await;
        }
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}
