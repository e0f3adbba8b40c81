//! [`ForwarderPublisher`]: writes envelopes to the forwarder topic.

use async_trait::async_trait;
use watermill_core::{
    Message, Publisher,
    backend::refuse_delays,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{DEFAULT_TOPIC, envelope};

/// Publishes to any topic by way of the forwarder topic of another publisher.
///
/// Each call becomes one call of the inner publisher, which may borrow a transaction: then the
/// envelopes are there when the transaction commits, and a [`Forwarder`](crate::Forwarder) brings
/// the messages to their topics.
///
/// What the inner publisher keeps for a call (all or nothing, order) holds for the envelopes; order is
/// kept by key all the way, because the envelope has the key of its message. The positions in
/// [`PublishError::not_accepted`] are those of the messages.
///
/// # Errors
///
/// [`PublishErrorKind::Topic`] for an empty topic, before anything is sent: nobody could forward such
/// an envelope. [`PublishErrorKind::Unsupported`] for a message that is due later: an envelope is brought on
/// as soon as it is read. Beside that, what the inner publisher says.
#[derive(Clone, Debug)]
pub struct ForwarderPublisher<P> {
    inner: P,
    forwarder_topic: String,
}

impl<P: Publisher> ForwarderPublisher<P> {
    /// Writes envelopes to [`DEFAULT_TOPIC`] through `inner`.
    pub fn new(inner: P) -> Self {
        Self { inner, forwarder_topic: DEFAULT_TOPIC.to_owned() }
    }

    /// Writes them to another topic. The forwarder must read the same one.
    #[must_use]
    pub fn topic(mut self, forwarder_topic: impl Into<String>) -> Self {
        self.forwarder_topic = forwarder_topic.into();
        self
    }

    /// The publisher that takes the envelopes.
    pub fn into_inner(self) -> P {
        self.inner
    }
}

#[async_trait]
impl<P: Publisher> Publisher for ForwarderPublisher<P> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        if topic.is_empty() {
            return Err(PublishError::new(PublishErrorKind::Topic, topic)
                .because("an envelope needs the name of the topic it is meant for"));
        }
        refuse_delays(topic, &messages)?;
        let envelopes = messages.iter().map(|message| envelope::wrap(topic, message)).collect();
        self.inner.publish(&self.forwarder_topic, envelopes).await
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities().delays(false)
    }
}
