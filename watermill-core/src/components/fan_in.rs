//! [`FanIn`]: several topics into one.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::passing;
use crate::{
    FailurePolicy, Handler, Handlers, Message, Publisher, Subscriber, error::ConfigError, metadata_keys,
};

/// Publishes the messages of several topics to one: a handler for each, named `fan_in_` and the topic as in Go, for
/// any router. The topics may be of different backends.
///
/// A message goes on as it is, with the topic that it came from in `_watermill_source_topic` of its metadata, and is
/// acked once it has been accepted. The order of each topic is kept; between topics there is none. While the target is
/// away, nothing is given up: messages are nacked and come again, with growing pauses. A message that the target
/// refuses for good is rejected, where its backend keeps such, and otherwise nacked again and again, which the log
/// shows; [`on_failure`](Self::on_failure) replaces that.
///
/// ```
/// use watermill_core::{MemoryBroker, Router, components::FanIn};
///
/// let broker = MemoryBroker::new();
/// let fan_in = FanIn::new(broker.publisher(), "payments")
///     .from(broker.subscriber().group("payments"), ["cards", "transfers"]);
/// let router: Router = Router::new().merge(fan_in.handlers()?);
/// # Ok::<_, watermill_core::error::ConfigError>(())
/// ```
#[must_use = "a fan-in does nothing until its handlers are in a router"]
pub struct FanIn {
    publisher: Arc<dyn Publisher>,
    target: String,
    sources: Vec<Source>,
    to_elsewhere: bool,
    policy: Option<FailurePolicy>,
}

struct Source {
    subscriber: Arc<dyn Subscriber>,
    topic: String,
    /// The name of its handler.
    name: String,
    /// Of which call of [`FanIn::from`] it is.
    call: usize,
}

impl FanIn {
    /// Publishes to `target`.
    pub fn new(publisher: impl Publisher + 'static, target: impl Into<String>) -> Self {
        let (publisher, target) = (Arc::new(publisher), target.into());
        Self { publisher, target, sources: Vec::new(), to_elsewhere: false, policy: None }
    }

    /// Says that what is published to is another cluster, database or project than what is read, though both are of one backend: a
    /// topic of the target's name is another one then, and may be a source.
    pub fn to_elsewhere(mut self) -> Self {
        self.to_elsewhere = true;
        self
    }

    /// Adds topics to take messages from. Called again with the subscriber of another cluster, it may name the same topics: their
    /// handlers have a number behind their names, `fan_in_orders_2`.
    pub fn from<T: Into<String>>(
        mut self,
        subscriber: impl Subscriber + 'static,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        let subscriber: Arc<dyn Subscriber> = Arc::new(subscriber);
        let call = self.sources.last().map_or(0, |last| last.call + 1);
        for topic in topics {
            let topic = topic.into();
            let before = self.sources.iter().filter(|source| source.topic == topic && source.call != call);
            let name = match before.count() {
                0 => format!("fan_in_{topic}"),
                before => format!("fan_in_{topic}_{}", before + 1),
            };
            self.sources.push(Source { subscriber: subscriber.clone(), topic, name, call });
        }
        self
    }

    /// Sets what becomes of a message that the target does not accept.
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The handlers, to be merged into a router.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names every problem: no topics, one without a name or named twice for one subscriber, and a target that
    /// is one of them on the same backend, whose messages would go round for ever, unless it is [elsewhere](Self::to_elsewhere).
    pub fn handlers<S: Clone + Send + Sync + 'static>(self) -> Result<Handlers<S>, ConfigError> {
        let backend = self.publisher.capabilities().backend;
        let topics = || self.sources.iter().map(|source| (source.call, source.topic.as_str()));
        let goes_round = |source: &Source| {
            let is_here = !self.to_elsewhere && source.subscriber.capabilities().backend == backend;
            is_here && source.topic == self.target
        };
        ConfigError::check("configure the fan-in")
            .unless(!self.sources.is_empty(), "there is no topic to take messages from")
            .unless(!topics().any(|(_, topic)| topic.is_empty()), "a topic to take messages from has no name")
            .unless(topics().collect::<BTreeSet<_>>().len() == self.sources.len(), "a topic is named twice")
            .unless(!self.target.is_empty(), "the topic to publish to has no name")
            .unless(
                !self.sources.iter().any(goes_round),
                format!(
                    "{:?} is a source and the target, so messages would go round for ever, unless the target is \
                     on another cluster: say so with to_elsewhere",
                    self.target
                ),
            )
            .finish()?;
        let mut handlers = Handlers::<()>::new();
        for Source { subscriber, topic, name, .. } in self.sources {
            let policy = self.policy.clone().unwrap_or_else(|| passing::policy(&subscriber));
            let source: Arc<str> = topic.as_str().into();
            let pass_on = move |message: Message| {
                let source = source.clone();
                async move { message.without_context().with_metadata(metadata_keys::SOURCE_TOPIC, &*source) }
            };
            handlers = handlers.add(
                Handler::new(name, pass_on)
                    .from(subscriber, topic)
                    .to(self.publisher.clone(), &self.target)
                    .on_failure(policy),
            );
        }
        Ok(handlers.with_state(()))
    }
}

impl fmt::Debug for FanIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|source| &source.topic).collect();
        f.debug_struct("FanIn")
            .field("sources", &sources)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
