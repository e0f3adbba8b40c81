//! [`Spans`]: makes the spans of what is done with messages.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use tracing::Span;

use super::{HandlerInfo, Message};

/// Makes the spans of what routers and relays do with messages, in place of their own: how a bridge to a
/// tracing system says where a span belongs, which only whoever makes a span can.
///
/// A router takes one with [`Router::spans`](crate::Router::spans), the relays of `watermill-forwarder` with their
/// builders. None of it is called where no subscriber of `tracing` listens.
///
/// What is made is entered whenever the work it stands for goes on, so that [`Span::current`] is this span for the
/// handler, and for the publisher of its outputs. It ends when it is dropped.
pub trait Spans: Send + Sync + 'static {
    /// Whether anybody listens to the spans that this makes, as far as is known: where nobody does, none is asked for. It
    /// is asked for each message, if any subscriber listens to anything.
    fn are_wanted(&self) -> bool {
        true
    }

    /// The span of a try to handle a message, or the messages of a batch: from the call of the service to the answer
    /// of the publisher that takes its outputs. The messages know their [delivery](Message::delivery).
    fn process(&self, handler: &HandlerInfo, messages: &[Message]) -> Span;

    /// The span of a call by which a relay publishes messages that it has taken from elsewhere.
    fn forward(&self, forwarding: &Forwarding<'_>) -> Span;

    /// What a relay publishes in `span` was accepted. The oldest of it had been in its source for so long by then, where
    /// the source says since when.
    fn forwarded(&self, span: &Span, oldest: Option<Duration>);

    /// What was done in `span` has failed; said at most once for each try. What comes next is not told: another try
    /// has a span of its own.
    fn failed(&self, span: &Span, error: &(dyn Error + 'static));
}

/// A call by which a relay publishes messages.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Forwarding<'a> {
    /// The topic that the relay reads.
    pub source: &'a str,
    /// The short name of the backend that it publishes to.
    pub backend: &'a str,
    /// The topic that the messages go to; `None` where they go to several in one transaction.
    pub destination: Option<&'a str>,
    /// What is published: the messages as their publishers made them, without envelopes.
    pub messages: &'a [&'a Message],
}

impl<'a> Forwarding<'a> {
    /// A call from one topic to another.
    pub fn new(source: &'a str, backend: &'a str, messages: &'a [&'a Message]) -> Self {
        Self { source, backend, destination: None, messages }
    }

    /// Sets [`destination`](Self::destination).
    #[must_use]
    pub fn to(mut self, destination: Option<&'a str>) -> Self {
        self.destination = destination;
        self
    }
}

impl<T: Spans + ?Sized> Spans for Arc<T> {
    fn are_wanted(&self) -> bool {
        (**self).are_wanted()
    }

    fn process(&self, handler: &HandlerInfo, messages: &[Message]) -> Span {
        (**self).process(handler, messages)
    }

    fn forward(&self, forwarding: &Forwarding<'_>) -> Span {
        (**self).forward(forwarding)
    }

    fn forwarded(&self, span: &Span, oldest: Option<Duration>) {
        (**self).forwarded(span, oldest);
    }

    fn failed(&self, span: &Span, error: &(dyn Error + 'static)) {
        (**self).failed(span, error);
    }
}

/// Who makes the spans of a handler. It takes no part in comparing handlers.
#[derive(Clone)]
pub(crate) struct SharedSpans(pub(crate) Arc<dyn Spans>);

impl fmt::Debug for SharedSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spans")
    }
}

impl PartialEq for SharedSpans {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SharedSpans {}

/// The span of the batch that an output was made in, until the outputs of the batch are published.
#[derive(Clone, Debug)]
pub(crate) struct MadeIn {
    pub(crate) span: Span,
    /// Whether whoever makes the spans was told that it has failed.
    pub(crate) has_failed: bool,
}
