//! Traces: W3C trace context in the metadata of messages, and spans by OpenTelemetry's conventions for messaging.
//!
//! The spans are `tracing` spans, and reach OpenTelemetry by `tracing-opentelemetry`, whose layer the application sets up.
//! Names and attributes are those of the semantic conventions in version 1.42.0, where messaging is in development still.
//!
//! | span | kind | stands for | is linked to |
//! |---|---|---|---|
//! | `send {topic}` | producer, or client | a call to publish | messages of the call that have a context of their own already |
//! | `create {topic}` | producer | one of several messages of a call | nothing; it is what others link to |
//! | `forward {topic}` | client | a call, or a transaction, by which a relay publishes | what created each message |
//! | `process {topic}` | consumer | a try to handle a message, or a batch of them, and to publish what comes out of it | what created each message |
//!
//! A message carries the context of the span that created it, for as long as it lives: that of its `send`, where the call has
//! one message, and of its `create`, where it has several. Whoever passes a message on, a relay or a handler that returns what
//! it was given, leaves that as it is. `send` is a client's span, where none of its messages has its context.
//!
//! `process` and `forward` begin traces of their own and link to what they handle, as one message may have many consumers, and a
//! consumer many messages. With [`Traces::continues`] a message that is handled alone continues the trace of its
//! publisher. A span has at most [`LINKS_MAX`] links.
//!
//! What fails has the status *error*, the text of the error as its description, and `error.type`: `unavailable`, `timeout` and
//! the other [kinds](watermill_core::error::PublishErrorKind) of an error of a publisher, `panic`, `timeout`, `decode`, and
//! `_OTHER` for errors of your own.
//!
//! Attributes that the conventions have no name for:
//!
//! | attribute | of | is |
//! |---|---|---|
//! | `watermill.handler` | `process` | the handler's name |
//! | `watermill.attempt` | `process` of one message | which delivery of the message it is, from 1, as far as somebody counts |
//! | `watermill.outbox.topic` | `forward` | the topic that the relay reads |
//! | `watermill.outbox.seconds` | `forward` | for how long the oldest message had been in the outbox when its destination had accepted it |
//!
//! # Why the router makes the spans
//!
//! A tower layer sees neither the publishing of what its handler returns, which comes after it, nor that the next call is another
//! try; and it costs a message some instructions also where nobody listens. So the core has a hook instead,
//! [`Spans`](watermill_core::message::Spans), which is where the router makes its own span otherwise: the bridge sets parents and
//! links before the span begins, which is the only time at which OpenTelemetry lets it.

mod context;
mod error_type;
mod publisher;
mod spans;

pub use publisher::TracedPublisher;
pub use spans::LINKS_MAX;

use opentelemetry::Context;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use watermill_core::{Message, Publisher, Router};

/// The target of all spans here: stable, for filters.
const TARGET: &str = "watermill_telemetry::traces";

/// Makes spans by OpenTelemetry's conventions, and carries their context in messages.
///
/// Cheap to clone. It does nothing, and costs a few instructions, where no subscriber of `tracing` listens; and nothing but
/// `tracing` spans where `tracing-opentelemetry` has no layer in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    continues: bool,
    baggage: bool,
    creates: bool,
}

impl Traces {
    /// Spans that link to what they handle, without baggage.
    pub const fn new() -> Self {
        Self { continues: false, baggage: false, creates: true }
    }

    /// Whether a message that is handled alone continues its publisher's trace: its `process` span is a child of the span that
    /// created it, beside the link to it. A trace is then as long as the chain of its messages, and as wide as
    /// there are consumers. Off by default.
    #[must_use]
    pub const fn continues(mut self, continues: bool) -> Self {
        self.continues = continues;
        self
    }

    /// Whether messages carry the [baggage](https://www.w3.org/TR/baggage/) of whoever publishes them, and handlers have that of
    /// their message. Off by default: whoever reads a message reads it, too.
    #[must_use]
    pub const fn baggage(mut self, baggage: bool) -> Self {
        self.baggage = baggage;
        self
    }

    /// Whether each of several messages of a call has a `create` span of its own, and thereby a context of its own. On by
    /// default; off, all of them carry the context of their `send`, which costs less.
    #[must_use]
    pub const fn create_spans(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// Has a router make the spans of its handlers here, and those of the publishers that take their outputs, which are then
    /// not to be wrapped once more. Where a layer publishes ([`Handler::to_topic`](watermill_core::Handler::to_topic)), its
    /// publisher is not the router's to wrap.
    pub fn on<S, L>(self, router: Router<S, L>) -> Router<S, L> {
        router.spans(self).decorate_publishers(move |publisher| self.publisher(publisher))
    }

    /// Puts `send` spans around a publisher, and their context into what it publishes. Outermost, where there are several
    /// wrappers: around a `ForwarderPublisher`, say, so that the topic is the one that the message is meant for.
    pub fn publisher<P: Publisher>(self, publisher: P) -> TracedPublisher<P> {
        TracedPublisher::new(publisher, self)
    }

    /// Puts the context of `span`, and the baggage of the current context if that is asked for, into a message that is to be
    /// published by other means than a [`TracedPublisher`]. A message that has a context keeps it.
    pub fn inject(&self, span: &Span, message: &mut Message) {
        if !context::is_carried(message) {
            context::inject(&span.context(), message, self.baggage);
        }
    }

    /// The context that a message carries: for whoever takes deliveries without a router, to be given to
    /// [`set_parent`](OpenTelemetrySpanExt::set_parent) or, its span's, to [`add_link`](OpenTelemetrySpanExt::add_link).
    /// Empty, where it carries none that can be read.
    pub fn context(&self, message: &Message) -> Context {
        context::of(message, self.baggage)
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self::new()
    }
}
