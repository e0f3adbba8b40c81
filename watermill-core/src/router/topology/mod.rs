//! What a router is made of, to print: its handlers, their topics, layers and policies, and the backends between them.
//!
//! ```
//! use watermill_core::{FailurePolicy, Handler, Json, MemoryBroker, Router, middleware::Correlation};
//!
//! async fn bill(Json(pieces): Json<u32>) -> Json<u32> {
//!     Json(pieces * 250)
//! }
//!
//! let broker = MemoryBroker::new();
//! let policy = FailurePolicy::retry(3).then_dead_letter(broker.publisher(), "billing.dead");
//! let router = Router::new().layer(Correlation::new()).add(
//!     Handler::new("bill", bill)
//!         .from(broker.subscriber(), "orders")
//!         .to(broker.publisher(), "invoices")
//!         .on_failure(policy),
//! );
//! let topology = router.describe();
//! assert_eq!(
//!     topology.to_string(),
//!     "memory:orders -> Correlation > bill -> memory:invoices \
//!      (on failure: retry 3 times, then dead-letter to \"billing.dead\")\n",
//! );
//! println!("{:#}", topology.to_json());
//! println!("{}", topology.to_dot()); // for `dot -Tsvg`
//! println!("{}", topology.handler("bill").expect("it was added").explain());
//! ```
//!
//! Nothing is connected to for it: a program can print its topology wherever it is built, in a pipeline that compares it with
//! the one before for instance.
#![cfg_attr(feature = "asyncapi", doc = "")]
#![cfg_attr(feature = "asyncapi", doc = include_str!("asyncapi.md"))]

#[cfg(feature = "asyncapi")]
mod asyncapi;
mod documented;
mod dot;
mod explain;
mod handler;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "asyncapi")]
pub use self::asyncapi::AsyncApi;
pub(crate) use self::documented::Document;
pub(super) use self::documented::Documents;
pub use self::{
    documented::{Documented, Payloads},
    handler::{AtOnce, Destination, FinalStep, HandlerDescription, OnFailure, Place, Running},
};
use super::prepared::Prepared;

/// The handlers of a router, in the order in which they were added: from [`Router::describe`](crate::Router::describe).
///
/// As text it has one line for each handler: where its messages come from, what they pass through, where its outputs go.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Topology {
    /// One by one.
    pub handlers: Vec<HandlerDescription>,
}

impl Topology {
    pub(super) fn of<'h>(handlers: impl IntoIterator<Item = &'h Prepared>) -> Self {
        let handlers = handlers.into_iter().map(|handler| HandlerDescription::of(&handler.spec));
        Self { handlers: handlers.collect() }
    }

    /// The handler of this name.
    pub fn handler(&self, name: &str) -> Option<&HandlerDescription> {
        self.handlers.iter().find(|handler| handler.name == name)
    }

    /// With the handlers of another router of the same process behind these.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.handlers.extend(other.handlers);
        self
    }

    /// As JSON, for tools: the fields of [`HandlerDescription`], times in milliseconds. `{:#}` prints it with line breaks.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("it is text and numbers")
    }

    /// As a graph in the language of Graphviz: topics, the handlers between them, and dashed lines to dead letters.
    pub fn to_dot(&self) -> String {
        dot::write(self)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handlers.iter().try_for_each(|handler| writeln!(f, "{handler}"))
    }
}
