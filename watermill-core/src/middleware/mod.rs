//! Middleware as tower layers: one file, one type, one name.
//!
//! Every service in a router is a [`tower::Service`] of [`Message`](crate::Message) with
//! [`Outputs`](crate::Outputs) as its response, so tower's own layers work around handlers unmodified.
mod correlation;
mod duplicator;
mod error_predicate;
mod ignore_errors;
mod instant_ack;
mod recoverer;
mod timeout;

pub use correlation::{Correlation, CorrelationFuture, CorrelationService};
pub use duplicator::{Duplicator, DuplicatorService};
use error_predicate::ErrorPredicate;
pub use ignore_errors::{IgnoreErrors, IgnoreErrorsFuture, IgnoreErrorsService};
pub use instant_ack::{InstantAck, InstantAckService};
pub use recoverer::{Recoverer, RecovererFuture, RecovererService};
pub use timeout::{Elapsed, Timeout, TimeoutFuture, TimeoutService};
