//! [`HandlerInfo`]: who handles a message.

use std::fmt;

use tracing::level_filters::LevelFilter;

use super::{Spans, spans::SharedSpans};

/// The names around a handler: the context that middleware, dead letters and logs speak of.
///
/// Inside a handler and its middleware, [`Message::handler`](crate::Message::handler) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerInfo {
    /// The handler's name, unique in its router.
    pub name: String,
    /// The topic it consumes.
    pub subscribe_topic: String,
    /// The consumer group it consumes for, if it named one.
    pub group: Option<String>,
    /// The short name of the backend it consumes from.
    pub subscriber: String,
    /// The topic its outputs go to, if it has one.
    pub publish_topic: Option<String>,
    /// The short name of the backend its outputs go to, if it has one.
    pub publisher: Option<String>,
    /// What no other handler of its router may do as well: in words.
    pub(crate) claims: Vec<String>,
    /// Who makes the spans of what it handles, in place of the router.
    pub(crate) spans: Option<SharedSpans>,
}

impl HandlerInfo {
    /// The names of a consuming handler; for tests of middleware, and for whoever drives a service
    /// without a router.
    pub fn consumer(
        name: impl Into<String>,
        subscriber: impl Into<String>,
        topic: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            subscribe_topic: topic.into(),
            group: None,
            subscriber: subscriber.into(),
            publish_topic: None,
            publisher: None,
            claims: Vec::new(),
            spans: None,
        }
    }

    pub(crate) fn spans(&self) -> Option<&dyn Spans> {
        self.spans.as_ref().map(|spans| &*spans.0)
    }

    /// The same, where somebody listens. One look, where nobody does to anything.
    #[inline]
    pub(crate) fn wanted_spans(&self) -> Option<&dyn Spans> {
        if LevelFilter::current() == LevelFilter::OFF {
            return None;
        }
        self.spans().filter(|spans| spans.are_wanted())
    }
}

impl fmt::Display for HandlerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}:{}", self.name, self.subscriber, self.subscribe_topic)?;
        if let Some(group) = &self.group {
            write!(f, " as {group}")?;
        }
        match (&self.publisher, &self.publish_topic) {
            (Some(publisher), Some(topic)) => write!(f, " -> {publisher}:{topic}"),
            (Some(publisher), None) => write!(f, " -> {publisher}"),
            _ => Ok(()),
        }
    }
}
