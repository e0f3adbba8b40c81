//! [`DelayRelay`]: takes messages that have become due to their topics.

use std::{fmt, sync::Arc};

use super::passing;
use crate::{
    FailurePolicy, Handler, Handlers, Message, Publisher, Subscriber, error::BoxError, metadata_keys,
    router::To,
};

/// Takes what a [`DelayPublisher`](crate::delay::DelayPublisher) has put into its queue to its topic, once it is due:
/// a handler for any router.
///
/// A message is acked in the queue when its topic has accepted it; a crash in between publishes it again, with the
/// same id. While the topic's backend is away, messages go back into the queue and are tried again with growing
/// pauses. One that does not say where it belongs, or that its topic refuses for good, is rejected: an SQL queue
/// keeps it with its dead letters. Where the queue's backend has no such place it is nacked again and again, which
/// the log shows. [`on_failure`](Self::on_failure) replaces all of that.
///
/// ```
/// use watermill_core::{Publisher, Router, Subscriber, components::DelayRelay};
///
/// fn relay(queue: impl Subscriber + 'static, kafka: impl Publisher + 'static) -> Router {
///     Router::new().merge(DelayRelay::new(queue, "delayed", kafka).handlers())
/// }
/// ```
#[must_use = "a relay does nothing until its handler is in a router"]
pub struct DelayRelay {
    name: String,
    queue: Arc<dyn Subscriber>,
    topic: String,
    publisher: Arc<dyn Publisher>,
    policy: FailurePolicy,
}

impl DelayRelay {
    /// Takes messages from `topic` of a queue to where they say, with `publisher`. The handler is named `delay_relay`.
    pub fn new(
        queue: impl Subscriber + 'static,
        topic: impl Into<String>,
        publisher: impl Publisher + 'static,
    ) -> Self {
        let policy = passing::policy(&queue);
        Self {
            name: "delay_relay".to_owned(),
            queue: Arc::new(queue),
            topic: topic.into(),
            publisher: Arc::new(publisher),
            policy,
        }
    }

    /// Names the handler, where a router has several relays.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets what becomes of a message that cannot be taken to its topic.
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The handler, to be merged into a router.
    pub fn handlers<S: Clone + Send + Sync + 'static>(self) -> Handlers<S> {
        let handler = Handler::new(self.name, pass_on)
            .from(self.queue, self.topic)
            .to_topics(self.publisher)
            .on_failure(self.policy);
        Handlers::<()>::new().add(handler).with_state(())
    }
}

async fn pass_on(message: Message) -> Result<To<String, Message>, BoxError> {
    let mut message = message.without_context();
    match message.metadata_mut().remove(metadata_keys::DELAYED_TOPIC) {
        Some(topic) if !topic.is_empty() => Ok(To(topic, message)),
        _ => Err(passing::nowhere(format!(
            "message {:?} does not say in {} where it goes when it is due: publish it with a `DelayPublisher`",
            message.id().as_str(),
            metadata_keys::DELAYED_TOPIC,
        ))),
    }
}

impl fmt::Debug for DelayRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayRelay")
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
