//! The router: handlers, what they may take and return, how they are run, and how they end.
#![doc = ""]
#![doc = include_str!("when_it_does_not_compile.md")]

mod batch;
mod batch_fn;
mod batch_span;
mod boxed;
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
mod factory;
mod failure;
mod handle;
mod handler;
mod handler_error;
mod handler_fn;
mod handlers;
mod outputs;
mod plugin;
mod prepared;
mod promise;
mod report;
mod restart;
mod retry_topics;
#[expect(clippy::module_inception, reason = "the file of the type `Router`")]
mod router;
mod runner;
mod service;
mod shared_error;
#[cfg(feature = "signal")]
mod signals;
mod sink;
mod source;
mod status;
mod stop;
mod supervisor;
pub mod topology;
mod try_timer;
pub mod types;
mod worker;

pub use batch_fn::{BatchFn, IntoOutcomes};
pub use by_topic::ByTopic;
pub use config::{RouterConfig, StartPolicy};
pub use control::{Phase, RouterControl};
pub use counters::Counts;
pub use extract::{Extension, Extract, ExtractOwned, FromRef, Json, JsonRejection, NotDelivered, State};
pub use failure::FailurePolicy;
pub use handle::{Added, RouterHandle};
pub use handler::Handler;
pub use handler_error::HandlerError;
pub use handler_fn::{HandlerFn, HandlerService};
pub use handlers::Handlers;
pub use outputs::{IntoOutputs, Outputs, To};
pub use plugin::Plugin;
pub use promise::{Promise, Required};
pub use report::{Ended, Forgotten, HandlerReport, Report, RunError, RunErrorKind};
pub use restart::RestartPolicy;
pub use retry_topics::RetryTopics;
pub use router::Router;
pub use service::{MakeService, MessageService};
#[cfg(feature = "signal")]
pub use signals::Signals;
pub use status::HandlerStatus;
pub use try_timer::TryTimer;

pub(crate) use boxed::BoxedService;
pub(crate) use handler_fn::{Asynchronous, Function};
pub(crate) use promise::require;

use crate::HandlerInfo;
