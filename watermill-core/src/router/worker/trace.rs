//! [`Trace`]: the name of a delivery for whoever reads logs.

use tracing::{Level, Span};

use super::Environment;
use crate::{Message, MessageId};

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
    #[inline]
    pub(super) fn of(message: &Message, attempt: u32, env: &Environment) -> Self {
        let wanted = tracing::enabled!(target: TARGET, Level::INFO)
            || tracing::enabled!(Level::ERROR)
            || env.attempts.is_some();
        Self(wanted.then(|| Box::new(Named::new(message, attempt, env))))
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

    /// Does something inside of the span.
    #[inline]
    pub(super) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            None => work(),
            Some(named) => named.span.in_scope(work),
        }
    }
}

impl Named {
    #[cold]
    fn new(message: &Message, attempt: u32, env: &Environment) -> Self {
        let id = message.id().clone();
        let span = tracing::info_span!(
            target: TARGET,
            "delivery",
            handler = env.info.name,
            topic = env.info.subscribe_topic,
            message_id = id.as_str(),
            attempt,
        );
        Self { id, span }
    }
}
