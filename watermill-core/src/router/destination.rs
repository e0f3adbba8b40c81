//! Where the outputs of a handler go, as types: what the compiler checks against what the handler returns.

use std::{marker::PhantomData, sync::Arc};

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
impl<Kind: ReturnsMessages<ToPublisher>> Output<Kind> for ToPublisher {}
impl<Kind: ReturnsMessages<ToTopic>> Output<Kind> for ToTopic {}
impl<Kind: ReturnsAddressed<ToTopics>> Output<Kind> for ToTopics {}

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
pub trait ReturnsMessages<Out> {}

impl<Out> ReturnsMessages<Out> for Messages {}
impl<Out> ReturnsMessages<Out> for Unknown {}
impl<Out> ReturnsMessages<Out> for Nothing where Unfit<Out>: SomethingToPublish {}
impl<Out> ReturnsMessages<Out> for Addressed where Unfit<Out>: TopicsOfMessages {}

/// What a handler returns whose outputs name their topics.
pub trait ReturnsAddressed<Out> {}

impl<Out> ReturnsAddressed<Out> for Addressed {}
impl<Out> ReturnsAddressed<Out> for Unknown {}
impl<Out> ReturnsAddressed<Out> for Nothing where Unfit<Out>: SomethingToPublish {}
impl<Out> ReturnsAddressed<Out> for Messages where Unfit<Out>: OneTopic {}

/// A destination that does not fit. What is asked of it below is never true: each is there for the sentence
/// that the compiler says then.
pub struct Unfit<Out>(PhantomData<Out>);

/// What a destination needs, and a handler that returns nothing does not have.
#[diagnostic::on_unimplemented(
    message = "the handler returns nothing and has a destination: leave out `.to(..)`",
    label = "there is nothing to publish",
    note = "or let the handler return what is to be published"
)]
pub trait SomethingToPublish {}

/// What messages that name their topics need.
#[diagnostic::on_unimplemented(
    message = "the handler's messages name their topics: call `.to_topics(publisher)` instead of `.to(publisher, topic)`",
    label = "a destination with a topic of its own",
    note = "or let the handler return its messages without `To(topic, ..)`"
)]
pub trait TopicsOfMessages {}

/// What messages that name no topic need.
#[diagnostic::on_unimplemented(
    message = "the handler's messages name no topic: call `.to(publisher, topic)` instead of `.to_topics(publisher)`",
    label = "a destination without a topic",
    note = "or let the handler return `To(topic, message)`"
)]
pub trait OneTopic {}

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
