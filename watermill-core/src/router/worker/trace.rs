//! [`Trace`]: the name of a delivery for whoever reads logs.

use std::{error::Error, slice};

use tracing::{Level, Span, span::Entered};

use super::Environment;
use crate::{Message, MessageId, message::Spans};

/// The target of the span: stable, for filters.
const TARGET: &str = "watermill_core::delivery";

/// The span of a delivery and the id of its message. Nothing where nobody listens: neither is made then, nor
/// is the id of a message that has none yet.
#[derive(Debug)]
pub(super) struct Trace(Option<Box<Named>>);

#[derive(Debug)]
struct Named {
    id: MessageId,
    span: Span,
}

impl Trace {
    /// A few looks at what is enabled are all that a span costs where nobody listens.
    #[inline(always)]
    pub(super) fn of(message: &Message, attempt: u32, env: &Environment) -> Self {
        let wanted = tracing::enabled!(target: TARGET, Level::INFO)
            || tracing::enabled!(Level::ERROR)
            || env.attempts.is_some()
            || env.info.wanted_spans().is_some();
        if wanted { Self(Some(Named::new(message, attempt, env))) } else { Self(None) }
    }

    /// The id of the message; `None` where nobody asked for it.
    pub(super) fn id(&self) -> Option<&MessageId> {
        self.0.as_ref().map(|named| &named.id)
    }

    /// The same as text, for the lines of a log.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.id().map(MessageId::as_str)
    }

    /// The span, for what goes on elsewhere.
    pub(super) fn span(&self) -> Option<Span> {
        self.0.as_ref().map(|named| named.span.clone())
    }

    /// The same for the next try, which has a span of its own where somebody else makes them.
    #[cold]
    pub(super) fn next_try(&mut self, message: &Message, env: &Environment) {
        if let (Some(named), Some(spans)) = (&mut self.0, env.info.spans()) {
            named.span = process(spans, message, env);
        }
    }

    /// The try has failed, which whoever makes the spans is told.
    #[cold]
    pub(super) fn failed(&self, error: &(dyn Error + 'static), env: &Environment) {
        if let (Some(named), Some(spans)) = (&self.0, env.info.spans())
            && !named.span.is_none()
        {
            spans.failed(&named.span, error);
        }
    }

    /// Ends the span of a try that is over, where somebody else makes them: what is waited for next is no part of it.
    #[cold]
    pub(super) fn end(&mut self, env: &Environment) {
        if let (Some(named), Some(_)) = (&mut self.0, env.info.spans()) {
            named.span = Span::none();
        }
    }

    /// Enters the span, until the guard is dropped.
    #[inline]
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        self.0.as_ref().map(|named| named.span.enter())
    }
}

impl Named {
    #[inline(never)]
    fn new(message: &Message, attempt: u32, env: &Environment) -> Box<Self> {
        let id = message.id().clone();
        if let Some(spans) = env.info.spans() {
            return Box::new(Self { id, span: process(spans, message, env) });
        }
        let span = tracing::info_span!(
            target: TARGET,
            "delivery",
            handler = env.info.name,
            topic = env.info.subscribe_topic,
            message_id = id.as_str(),
            attempt,
        );
        Box::new(Self { id, span })
    }
}

/// The span of a try. The messages of a batch have one together, which the batch makes.
fn process(spans: &dyn Spans, message: &Message, env: &Environment) -> Span {
    if env.is_batch { Span::none() } else { spans.process(&env.info, slice::from_ref(message)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        FailurePolicy, HandlerInfo,
        router::{concurrency::Concurrency, sink::Sink, stop::Stop},
        subscriber::SubscriberCapabilities,
    };

    #[test]
    fn where_nobody_listens_there_is_no_span_and_no_id_is_made() {
        let env = Environment::new(
            Arc::new(HandlerInfo::consumer("h", "memory", "t")),
            Sink { publisher: None, topic: None },
            FailurePolicy::default(),
            Concurrency::default(),
            0,
            &SubscriberCapabilities::new("memory").attempts(true),
            Stop::default(),
        );
        let trace = Trace::of(&Message::new("x"), 1, &env);
        assert_eq!(trace.id(), None);
        assert!(trace.span().is_none());
    }
}
