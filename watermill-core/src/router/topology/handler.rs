//! [`HandlerDescription`]: what is known of a handler before it runs.

use std::fmt;

use serde::Serialize;

#[cfg(feature = "asyncapi")]
use super::documented::Documents;
use super::explain::Explained;
use crate::{
    Backoff,
    router::{
        concurrency::Concurrency,
        prepared::{Spec, short},
        sink::Sink,
    },
    subscriber::{DeliveryGuarantee, Ordering, SubscriberCapabilities},
};

/// What a handler takes, passes it through, and does with what comes out.
///
/// As text it is one line; [`explain`](Self::explain) tells more.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HandlerDescription {
    /// Its name.
    pub name: String,
    /// Where its messages come from.
    pub source: Place,
    /// The consumer group that the handler was given; without one, it is the subscriber's own, if that has any.
    pub group: Option<String>,
    /// Whether what was delivered and not acked comes again.
    pub delivery: DeliveryGuarantee,
    /// How far the source keeps order.
    pub ordering: Ordering,
    /// How many messages it handles at once.
    pub running: Running,
    /// What a message passes through, the outermost first: the names of the layers' types.
    pub layers: Vec<&'static str>,
    /// The payloads that it takes, by their names, as far as it is [documented](super::Documented).
    pub consumes: Vec<String>,
    /// The payloads that it returns, likewise.
    pub produces: Vec<String>,
    /// Where its outputs go.
    pub destination: Destination,
    /// What becomes of a message whose handler fails.
    pub on_failure: OnFailure,
    #[cfg(feature = "asyncapi")]
    #[serde(skip)]
    pub(super) documents: Documents,
    #[serde(skip)]
    pub(super) subscriber: SubscriberCapabilities,
}

/// A topic and the backend it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// The backend's short name: `memory`, `sql`, `kafka`. `None` where only a layer knows it.
    pub backend: Option<&'static str>,
    /// The topic.
    pub topic: String,
}

/// Where the outputs of a handler go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "to", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Destination {
    /// It has none.
    Nowhere,
    /// To one topic. Without a backend, a layer publishes them.
    Topic(Place),
    /// To topics that the messages name.
    NamedByMessages {
        /// The backend that they are of.
        backend: &'static str,
    },
}

/// How many messages a handler handles at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Running {
    /// Which of them.
    pub at_once: AtOnce,
    /// How many at the most.
    pub max: usize,
    /// How many may be handed out and not settled.
    pub outstanding_max: usize,
    /// How many may have outputs on their way while the next is handled.
    pub pipeline: usize,
}

/// Which messages are handled at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AtOnce {
    /// One of each ordering scope.
    OneOfEachScope,
    /// One of each key.
    OneOfEachKey,
    /// Any.
    Any,
    /// Those of a batch.
    Batch,
}

/// What becomes of a message whose handler fails: a [`FailurePolicy`](crate::FailurePolicy), to look at.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OnFailure {
    /// How often it is tried again in place.
    pub retries: u32,
    /// How long it waits before each of these.
    pub backoff: Backoff,
    /// How often it is delivered before the policy ends.
    pub max_deliveries: u32,
    /// How long it stays away when it is nacked.
    pub nack_backoff: Backoff,
    /// How the policy ends.
    pub then: FinalStep,
    /// All of it, as the policy says it.
    #[serde(skip)]
    pub(in crate::router) text: String,
}

/// How a failure policy ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinalStep {
    /// The message comes again.
    Nack,
    /// It goes to a topic for dead letters.
    DeadLetter(Place),
    /// It goes to a topic from where it is handled again, later.
    RetryFrom(Place),
    /// It goes to the backend's own dead letters.
    Reject,
    /// It is acked, and its error logged.
    Drop,
}

impl HandlerDescription {
    pub(super) fn of(spec: &Spec) -> Self {
        let subscriber = spec.subscriber.capabilities();
        Self {
            name: spec.name.clone(),
            source: Place { backend: Some(subscriber.backend), topic: spec.topic.clone() },
            group: spec.group.clone(),
            delivery: subscriber.delivery,
            ordering: subscriber.ordering,
            running: Running::of(spec.concurrency, &subscriber, &spec.sink, spec.pipeline),
            layers: spec.layers.iter().map(|name| short(name)).collect(),
            consumes: spec.documents.consumed(),
            produces: spec.documents.produced(),
            destination: Destination::of(&spec.sink),
            on_failure: spec.policy.describe(),
            #[cfg(feature = "asyncapi")]
            documents: spec.documents.clone(),
            subscriber,
        }
    }

    /// What the handler does, in sentences: for whoever operates it and has not written it.
    pub fn explain(&self) -> impl fmt::Display + '_ {
        Explained(self)
    }
}

impl FinalStep {
    /// Where the message goes, if it goes somewhere.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::DeadLetter(place) | Self::RetryFrom(place) => Some(place),
            Self::Nack | Self::Reject | Self::Drop => None,
        }
    }
}

impl Running {
    fn of(
        concurrency: Concurrency,
        subscriber: &SubscriberCapabilities,
        sink: &Sink,
        pipeline: usize,
    ) -> Self {
        let concurrency = concurrency.with(subscriber.ordering);
        let pipeline = concurrency.pipeline(sink, pipeline);
        let at_once = match concurrency {
            Concurrency::Scopes(_) => AtOnce::OneOfEachScope,
            Concurrency::Keyed(_) => AtOnce::OneOfEachKey,
            Concurrency::Each(_) | Concurrency::Unordered(_) => AtOnce::Any,
            Concurrency::Batch(_) => AtOnce::Batch,
        };
        let outstanding_max = concurrency.window(subscriber.ordering, pipeline).total();
        Self { at_once, max: concurrency.lanes_max(), outstanding_max, pipeline }
    }
}

impl Destination {
    fn of(sink: &Sink) -> Self {
        let backend = sink.publisher.as_ref().map(|publisher| publisher.capabilities().backend);
        match (&sink.topic, backend) {
            (Some(topic), backend) => Self::Topic(Place { backend, topic: topic.clone() }),
            (None, Some(backend)) => Self::NamedByMessages { backend },
            (None, None) => Self::Nowhere,
        }
    }
}

impl fmt::Display for HandlerDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.source)?;
        self.layers.iter().try_for_each(|layer| write!(f, "{layer} > "))?;
        write!(f, "{}{} (on failure: {})", self.name, self.destination, self.on_failure)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Some(backend) => write!(f, "{backend}:{}", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::Topic(place) => write!(f, " -> {place}"),
            Self::NamedByMessages { backend } => write!(f, " -> {backend}"),
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
