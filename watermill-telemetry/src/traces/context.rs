//! The context of a span in the metadata of a message: `traceparent`, `tracestate` and, if asked for, `baggage`.

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use watermill_core::{Message, Metadata};

/// <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "traceparent";

/// Whether a message has a context, readable or not: it is not ours to replace.
pub(super) fn is_carried(message: &Message) -> bool {
    message.metadata().contains(TRACEPARENT)
}

/// Puts a context into a message; nothing of one that is no span's.
pub(super) fn inject(context: &Context, message: &mut Message, baggage: bool) {
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(context, &mut Writer(message.metadata_mut()));
    }
    if baggage {
        BaggagePropagator::new().inject_context(&Context::current(), &mut Writer(message.metadata_mut()));
    }
}

/// What a message carries.
pub(super) fn of(message: &Message, baggage: bool) -> Context {
    let metadata = Reader(message.metadata());
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &metadata);
    if baggage { BaggagePropagator::new().extract_with_context(&context, &metadata) } else { context }
}

/// Its baggage alone, for a span that is no child of what it carries.
pub(super) fn baggage_of(message: &Message) -> Context {
    BaggagePropagator::new().extract_with_context(&Context::new(), &Reader(message.metadata()))
}

/// The context of the span that created a message.
pub(super) fn creation(message: &Message) -> Option<SpanContext> {
    if !is_carried(message) {
        return None;
    }
    let context = of(message, false);
    let creation = context.span().span_context().clone();
    creation.is_valid().then_some(creation)
}

struct Writer<'m>(&'m mut Metadata);

impl Injector for Writer<'_> {
    /// An empty `tracestate` says nothing, and is left out.
    fn set(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(name, value);
        }
    }
}

struct Reader<'m>(&'m Metadata);

impl Extractor for Reader<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn carrying(name: &str, value: &str) -> Message {
        Message::new("x").with_metadata(name, value)
    }

    #[test]
    fn what_a_message_carries_is_written_again_as_it_was() {
        let message = carrying(TRACEPARENT, PARENT).with_metadata("tracestate", "vendor=one,other=two");
        let mut other = Message::new("y");
        inject(&of(&message, false), &mut other, false);
        assert_eq!(other.metadata(), message.metadata());
    }

    #[test]
    fn a_state_that_is_empty_is_left_out() {
        let mut message = Message::new("x");
        inject(&of(&carrying(TRACEPARENT, PARENT), false), &mut message, false);
        assert_eq!(message.metadata().iter().collect::<Vec<_>>(), [(TRACEPARENT, PARENT)]);
        let mut bare = Message::new("x");
        inject(&Context::new(), &mut bare, false);
        assert!(bare.metadata().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_no_context_and_is_not_replaced() {
        for foreign in ["", "00", "00-0-0-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ü"]
        {
            let message = carrying(TRACEPARENT, foreign);
            assert_eq!(creation(&message), None, "{foreign}");
            assert!(is_carried(&message));
        }
    }

    #[test]
    fn baggage_is_read_if_it_is_asked_for() {
        use opentelemetry::baggage::BaggageExt;
        let message = carrying("baggage", "tenant=seven");
        let read = |context: Context| context.baggage().get("tenant").map(|value| value.as_str().to_owned());
        assert_eq!(read(of(&message, true)).as_deref(), Some("seven"));
        assert_eq!(read(baggage_of(&message)).as_deref(), Some("seven"));
        assert_eq!(read(of(&message, false)), None);
    }
}
