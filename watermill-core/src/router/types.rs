//! Types between the lines: what the compiler infers and checks while handlers are put together. You read their
//! names in its messages, and rarely write one.

pub use super::{
    batch::{BatchFuture, BatchInterrupted, BatchService, MakeBatch},
    boxed::{BoxedFuture, BoxedService},
    destination::{
        NoOutput, OneTopic, Output, ReturnsAddressed, ReturnsMessages, ReturnsNothing, SomethingToPublish,
        ToPublisher, ToTopic, ToTopics, TopicsOfMessages, Unfit,
    },
    extract::{ByRef, ByValue},
    factory::SharedLayer,
    handler::{MakeHandler, MakeReady},
    handler_fn::HandlerFuture,
    outputs::{Addressed, Messages, Nothing, Unknown},
    service::RouterState,
    source::{FromTopic, NoSource, Source},
};
