//! The spans of routers and relays.

use std::{error::Error, time::Duration};

use opentelemetry::trace::Status;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use watermill_core::{
    DeliveryInfo, HandlerInfo, Message,
    error::chain,
    message::{Forwarding, Spans},
};

use super::{TARGET, Traces, context, error_type::error_type};

/// The most links of a span: as many as OpenTelemetry's SDK keeps unless it is told otherwise. Of a larger batch the first
/// messages are linked.
pub const LINKS_MAX: usize = 128;

/// The longest text of an error that is written into a span, in bytes.
const TEXT_MAX: usize = 4_096;

impl Spans for Traces {
    fn are_wanted(&self) -> bool {
        tracing::enabled!(target: TARGET, Level::INFO)
    }

    fn process(&self, handler: &HandlerInfo, messages: &[Message]) -> Span {
        // A filter of one layer keeps what it was asked last, until it is asked again.
        if !self.are_wanted() {
            return Span::none();
        }
        let topic = &*handler.subscribe_topic;
        let only = only(messages);
        let one = One::of(&handler.subscriber, only);
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "process",
            otel.name = format!("process {topic}"),
            otel.kind = "consumer",
            error.type = tracing::field::Empty,
            messaging.system = system(&handler.subscriber),
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = topic,
            messaging.destination.partition.id = one.partition,
            messaging.consumer.group.name = handler.group.as_deref().or(one.group),
            messaging.message.id = only.and_then(id),
            messaging.batch.message_count = count(messages.len()),
            messaging.kafka.offset = one.offset,
            messaging.kafka.message.key = one.key,
            messaging.kafka.message.tombstone = one.tombstone,
            messaging.gcp_pubsub.message.ordering_key = one.ordering_key,
            messaging.gcp_pubsub.message.delivery_attempt = one.delivery_attempt,
            watermill.handler = handler.name,
            watermill.attempt = one.attempt,
        );
        if span.is_disabled() {
            return span;
        }
        link(&span, messages.iter());
        // A layer that is not there, or a span that was filtered out: then there is no parent to set.
        let _ = match only {
            Some(message) if self.continues => span.set_parent(self.context(message)),
            Some(message) if self.baggage => span.set_parent(context::baggage_of(message)),
            _ => Ok(()),
        };
        span
    }

    fn forward(&self, forwarding: &Forwarding<'_>) -> Span {
        if !self.are_wanted() {
            return Span::none();
        }
        let messages = forwarding.messages;
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "forward",
            otel.name = named("forward", forwarding.destination),
            otel.kind = "client",
            error.type = tracing::field::Empty,
            messaging.system = system(forwarding.backend),
            messaging.operation.name = "forward",
            messaging.operation.type = "send",
            messaging.destination.name = forwarding.destination,
            messaging.message.id = only(messages).and_then(|message| id(message)),
            messaging.batch.message_count = count(messages.len()),
            watermill.outbox.topic = forwarding.source,
            watermill.outbox.seconds = tracing::field::Empty,
        );
        if !span.is_disabled() {
            link(&span, messages.iter().copied());
        }
        span
    }

    fn forwarded(&self, span: &Span, oldest: Option<Duration>) {
        if let Some(oldest) = oldest {
            span.record("watermill.outbox.seconds", oldest.as_secs_f64());
        }
    }

    fn failed(&self, span: &Span, error: &(dyn Error + 'static)) {
        if span.is_disabled() {
            return;
        }
        span.record("error.type", error_type(error));
        let mut text = chain(error);
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        span.set_status(Status::error(text));
    }
}

/// What is said of a message that is alone in its span.
#[derive(Default)]
struct One<'m> {
    group: Option<&'m str>,
    attempt: Option<u32>,
    partition: Option<String>,
    offset: Option<i64>,
    key: Option<&'m str>,
    tombstone: Option<bool>,
    ordering_key: Option<&'m str>,
    delivery_attempt: Option<u32>,
}

impl<'m> One<'m> {
    fn of(backend: &str, message: Option<&'m Message>) -> Self {
        let Some(message) = message else { return Self::default() };
        let delivery = message.delivery();
        let attempt = delivery.map(DeliveryInfo::attempt);
        // A key that is no text has no form that the conventions would take.
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let one = Self { group: delivery.and_then(DeliveryInfo::group), attempt, ..Self::default() };
        let (is_kafka, is_pubsub) = (backend == "kafka", backend == "pubsub");
        Self {
            partition: delivery.and_then(DeliveryInfo::partition).map(|partition| partition.to_string()),
            offset: delivery.and_then(DeliveryInfo::offset).filter(|_| is_kafka),
            key: key.filter(|_| is_kafka),
            tombstone: (is_kafka && message.is_tombstone()).then_some(true),
            ordering_key: key.filter(|_| is_pubsub),
            delivery_attempt: attempt.filter(|_| is_pubsub),
            ..one
        }
    }
}

/// Links a span to what created each of its messages.
pub(super) fn link<'m>(span: &Span, messages: impl Iterator<Item = &'m Message>) {
    for creation in messages.take(LINKS_MAX).filter_map(context::creation) {
        span.add_link(creation);
    }
}

/// What the conventions call a backend, where they have a name for it.
pub(super) fn system(backend: &str) -> &str {
    match backend {
        "pubsub" => "gcp_pubsub",
        other => other,
    }
}

/// The name of a span.
pub(super) fn named(operation: &str, topic: Option<&str>) -> String {
    topic.map_or_else(|| operation.to_owned(), |topic| format!("{operation} {topic}"))
}

/// How many messages there are, where there is not one alone.
pub(super) fn count(messages: usize) -> Option<i64> {
    (messages != 1).then(|| i64::try_from(messages).unwrap_or(i64::MAX))
}

/// The id, unless it is empty.
pub(super) fn id(message: &Message) -> Option<&str> {
    Some(message.id().as_str()).filter(|id| !id.is_empty())
}

/// The message that is alone.
pub(super) fn only<T>(messages: &[T]) -> Option<&T> {
    match messages {
        [only] => Some(only),
        _ => None,
    }
}
