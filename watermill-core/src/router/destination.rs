//! Where the outputs of a handler go, as types: what the compiler checks against what the handler returns.

use std::sync::Arc;

use super::{
    handler::Unknown,
    outputs::{Addressed, Messages, Nothing},
    sink::Sink,
};
use crate::Publisher;

/// A destination that fits handlers returning `Kind`.
#[diagnostic::on_unimplemented(
    message = "the handler's return type does not fit its destination",
    note = "a handler that returns nothing takes no publisher; one that returns messages needs `.to(publisher, topic)`, or `.to_topic(topic)` where a layer publishes; one that returns `To(topic, message)` needs `.to_topics(publisher)`"
)]
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

impl Output<Nothing> for NoOutput {}
impl Output<Messages> for ToPublisher {}
impl Output<Messages> for ToTopic {}
impl Output<Addressed> for ToTopics {}
impl<O: sealed::IntoSink> Output<Unknown> for O {}

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
