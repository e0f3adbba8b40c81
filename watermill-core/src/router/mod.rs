//! The router: handlers, what they may take and return, how they are run, and how they end.
#![doc = ""]
#![doc = include_str!("when_it_does_not_compile.md")]

mod batch;
mod batch_fn;
mod by_topic;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod check;
mod concurrency;
mod config;
mod control;
mod counters;
mod destination;
mod extract;
mod failure;
mod handle;
mod handler;
mod handler_error;
mod handler_fn;
mod outputs;
mod plugin;
mod report;
#[expect(clippy::module_inception, reason = "the file of the type `Router`")]
mod router;
mod service;
mod shared_error;
#[cfg(feature = "signal")]
mod signals;
mod sink;
mod source;
mod supervisor;
mod worker;

pub use batch::{BatchFuture, BatchInterrupted, BatchService, MakeBatch};
pub use batch_fn::{BatchFn, IntoOutcomes};
pub use by_topic::ByTopic;
pub use config::{RouterConfig, StartPolicy};
pub use control::{HandlerStatus, Phase, RouterControl};
pub use counters::Counts;
pub use destination::{NoOutput, Output, ToPublisher, ToTopic, ToTopics};
pub use extract::{
    ByRef, ByValue, Extension, Extract, ExtractOwned, FromRef, Json, JsonRejection, NotDelivered, State,
};
pub use failure::FailurePolicy;
pub use handle::RouterHandle;
pub use handler::{Handler, MakeHandler, MakeReady, Unknown};
pub use handler_error::HandlerError;
pub use handler_fn::{HandlerFn, HandlerFuture, HandlerService};
pub use outputs::{Addressed, IntoOutputs, Messages, Nothing, Outputs, To};
pub use plugin::Plugin;
pub use report::{Ended, HandlerReport, Report, RunError, RunErrorKind};
pub use router::{Router, SharedLayer};
pub use service::{MakeService, MessageService, RouterState};
#[cfg(feature = "signal")]
pub use signals::Signals;
pub use source::{FromTopic, NoSource, Source};

use crate::HandlerInfo;
