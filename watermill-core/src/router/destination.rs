//! Where the outputs of a handler go, as types: what the compiler checks against what the handler returns.

use std::sync::Arc;

use super::{
    outputs::{Addressed, Messages, Nothing, Unknown},
    sink::Sink,
};
use crate::Publisher;

/// A destination that fits handlers returning `Kind`.
pub trait Output<Kind>: sealed::IntoSink {}

/// A handler that publishes nothing.
#[derive(Debug)]
pub struct NoOutput(pub(super) ());

/// A handler whose outputs go to one topic of a publisher.
pub struct ToPublisher {
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) topic: String,
}

/// A handler whose outputs name their topics.
pub struct ToTopics {
    pub(super) publisher: Arc<dyn Publisher>,
}

/// A handler whose outputs go to one topic, and are published by a layer.
#[derive(Debug)]
pub struct ToTopic {
    pub(super) topic: String,
}

impl<Kind: ReturnsNothing> Output<Kind> for NoOutput {}
impl<Kind: ReturnsMessages> Output<Kind> for ToPublisher {}
impl<Kind: ReturnsMessages> Output<Kind> for ToTopic {}
impl<Kind: ReturnsAddressed> Output<Kind> for ToTopics {}

/// What a handler without a destination returns.
#[diagnostic::on_unimplemented(
    message = "the handler returns messages and has no destination: call `.to(publisher, topic)`",
    label = "nowhere to publish what the handler returns",
    note = "where a layer publishes, `.to_topic(topic)` is enough",
    note = "messages that name their topics, `To(topic, message)`, need `.to_topics(publisher)`"
)]
pub trait ReturnsNothing {}

impl ReturnsNothing for Nothing {}
impl ReturnsNothing for Unknown {}

/// What a handler returns whose destination is one topic.
#[diagnostic::on_unimplemented(
    message = "the handler's destination is one topic, and it returns `{Self}`",
    label = "the destination does not fit what the handler returns",
    note = "a handler that returns nothing has no destination: leave out `.to(publisher, topic)`",
    note = "messages that name their topics, `To(topic, message)`, need `.to_topics(publisher)` instead"
)]
pub trait ReturnsMessages {}

impl ReturnsMessages for Messages {}
impl ReturnsMessages for Unknown {}

/// What a handler returns whose outputs name their topics.
#[diagnostic::on_unimplemented(
    message = "the handler's destination is the topics that its messages name, and it returns `{Self}`",
    label = "the destination does not fit what the handler returns",
    note = "a handler that returns nothing has no destination: leave out `.to_topics(publisher)`",
    note = "messages that name no topic need `.to(publisher, topic)` instead, or are returned as `To(topic, message)`"
)]
pub trait ReturnsAddressed {}

impl ReturnsAddressed for Addressed {}
impl ReturnsAddressed for Unknown {}

/// Keeps [`Output`] closed, and its conversion out of sight.
mod sealed {
    use super::{Arc, NoOutput, Publisher, ToPublisher, ToTopic, ToTopics};

    type Destination = (Option<Arc<dyn Publisher>>, Option<String>);

    pub trait IntoSink {
        #[doc(hidden)]
        fn into_sink(self) -> Destination;
    }

    impl IntoSink for NoOutput {
        fn into_sink(self) -> Destination {
            (None, None)
        }
    }

    impl IntoSink for ToPublisher {
        fn into_sink(self) -> Destination {
            (Some(self.publisher), Some(self.topic))
        }
    }

    impl IntoSink for ToTopic {
        fn into_sink(self) -> Destination {
            (None, Some(self.topic))
        }
    }

    impl IntoSink for ToTopics {
        fn into_sink(self) -> Destination {
            (Some(self.publisher), None)
        }
    }
}

pub(super) use sealed::IntoSink;

pub(super) fn sink(output: impl IntoSink) -> Sink {
    let (publisher, topic) = output.into_sink();
    Sink { publisher, topic }
}
