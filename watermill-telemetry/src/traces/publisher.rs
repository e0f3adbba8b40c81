//! [`TracedPublisher`]: a span for each call, whose context its messages carry.

use async_trait::async_trait;
use futures::future::BoxFuture;
use opentelemetry::trace::TraceContextExt;
use tracing::{Instrument, Span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use watermill_core::{
    Message, Publisher, error::PublishError, message::Spans, publisher::PublisherCapabilities,
};

use super::{
    TARGET, Traces, context,
    spans::{LINKS_MAX, count, id, named, only, system},
};

/// A publisher with a `send` span around each call, which [`Traces::publisher`] makes. Each message that has no context
/// yet gets the one that [`traces`](super) says; one that has keeps it.
///
/// Where no subscriber of `tracing` listens, a call goes through as it is, without an allocation.
#[derive(Clone, Debug)]
pub struct TracedPublisher<P> {
    inner: P,
    traces: Traces,
}

impl<P: Publisher> TracedPublisher<P> {
    pub(super) fn new(inner: P, traces: Traces) -> Self {
        Self { inner, traces }
    }

    /// The wrapped publisher.
    pub fn get_ref(&self) -> &P {
        &self.inner
    }

    /// Whether somebody listens to the span of a call, or a message has a context to carry all the same.
    fn is_traced(&self) -> bool {
        self.traces.are_wanted()
            || !Span::current().is_none()
            || opentelemetry::Context::current().has_active_span()
    }

    /// Where somebody listens to something. Apart: what it makes room for is more than all else where nobody does.
    #[inline(never)]
    fn publish_heard<'call>(
        &'call self,
        topic: &'call str,
        messages: Vec<Message>,
    ) -> BoxFuture<'call, Result<(), PublishError>> {
        if messages.is_empty() || !self.is_traced() {
            return self.inner.publish(topic, messages);
        }
        Box::pin(self.traced(topic, messages))
    }

    async fn traced(&self, topic: &str, mut messages: Vec<Message>) -> Result<(), PublishError> {
        let backend = system(self.inner.capabilities().backend);
        let several = messages.len() > 1;
        if several && self.traces.creates {
            for message in messages.iter_mut().filter(|message| !context::is_carried(message)) {
                self.inject(&create(topic, backend, message), message);
            }
        }
        // What has a context by now does not have that of the call.
        let is_creation = messages.iter().any(|message| !context::is_carried(message));
        let span = send(topic, backend, &messages, if is_creation { "producer" } else { "client" });
        for creation in messages.iter().take(LINKS_MAX).filter_map(context::creation) {
            span.add_link(creation);
        }
        for message in messages.iter_mut().filter(|message| !context::is_carried(message)) {
            self.inject(&span, message);
        }
        let result = self.inner.publish(topic, messages).instrument(span.clone()).await;
        if let Err(error) = &result {
            self.traces.failed(&span, error);
        }
        result
    }

    /// Where a filter has left out the span, its messages carry the context of whoever publishes them.
    fn inject(&self, span: &Span, message: &mut Message) {
        let context = if span.is_disabled() { Span::current().context() } else { span.context() };
        // Without OpenTelemetry's layer there may be a context of OpenTelemetry's own.
        let context = if context.has_active_span() { context } else { opentelemetry::Context::current() };
        context::inject(&context, message, self.traces.baggage);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher> Publisher for TracedPublisher<P> {
    // Written out, so that it is no future of its own where nobody listens.
    fn publish<'this, 'topic, 'call>(
        &'this self,
        topic: &'topic str,
        messages: Vec<Message>,
    ) -> BoxFuture<'call, Result<(), PublishError>>
    where
        'this: 'call,
        'topic: 'call,
        Self: 'call,
    {
        if LevelFilter::current() == LevelFilter::OFF {
            return self.inner.publish(topic, messages);
        }
        self.publish_heard(topic, messages)
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities()
    }
}

/// One of several messages.
fn create(topic: &str, system: &str, message: &Message) -> Span {
    tracing::info_span!(
        target: TARGET,
        "create",
        otel.name = named("create", Some(topic)),
        otel.kind = "producer",
        messaging.system = system,
        messaging.operation.name = "create",
        messaging.operation.type = "create",
        messaging.destination.name = topic,
        messaging.message.id = id(message),
    )
}

/// A call.
fn send(topic: &str, system: &str, messages: &[Message], kind: &str) -> Span {
    let key = only(messages).and_then(Message::key).and_then(|key| std::str::from_utf8(key).ok());
    tracing::info_span!(
        target: TARGET,
        "send",
        otel.name = named("send", Some(topic)),
        otel.kind = kind,
        error.type = tracing::field::Empty,
        messaging.system = system,
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = topic,
        messaging.message.id = only(messages).and_then(id),
        messaging.batch.message_count = count(messages.len()),
        messaging.kafka.message.key = key.filter(|_| system == "kafka"),
        messaging.gcp_pubsub.message.ordering_key = key.filter(|_| system == "gcp_pubsub"),
    )
}
