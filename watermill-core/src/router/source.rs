//! Where the messages of a handler come from, as types: what the compiler checks before a router takes a handler.

use std::sync::Arc;

use crate::Subscriber;

/// A handler's source: what [`Handler::from`](crate::Handler::from) gives it.
#[diagnostic::on_unimplemented(
    message = "the handler has no source: call `.from(subscriber, topic)`",
    label = "a handler without a source",
    note = "`Handler::new(name, function).from(subscriber, topic)` is a handler that a router can run"
)]
pub trait Source: sealed::IntoTopic {}

/// A handler that does not know yet where its messages come from: see
/// [`Handler::from`](crate::Handler::from).
#[derive(Debug)]
pub struct NoSource(pub(super) ());

/// Where a handler's messages come from.
pub struct FromTopic {
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) topic: String,
}

impl Source for FromTopic {}

/// Keeps [`Source`] closed, and its conversion out of sight.
mod sealed {
    use super::FromTopic;

    pub trait IntoTopic {
        #[doc(hidden)]
        fn into_topic(self) -> FromTopic;
    }

    impl IntoTopic for FromTopic {
        fn into_topic(self) -> FromTopic {
            self
        }
    }
}

pub(super) fn topic(source: impl Source) -> FromTopic {
    source.into_topic()
}
