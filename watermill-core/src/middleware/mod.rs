//! Middleware as tower layers: one file, one type, one name.
//!
//! Every service in a router is a [`tower::Service`] of [`Message`](crate::Message) with
//! [`Outputs`](crate::Outputs) as its response, so tower's own layers work around handlers unmodified.
mod circuit_breaker;
mod correlation;
mod delay_on_error;
mod duplicator;
mod error_predicate;
mod ignore_errors;
mod instant_ack;
mod poison_queue;
mod random_fail;
mod random_panic;
mod recoverer;
mod retry;
mod throttle;
mod timeout;

pub use circuit_breaker::{BreakerState, CircuitBreaker, CircuitBreakerFuture, CircuitBreakerService};
pub use correlation::{Correlation, CorrelationFuture, CorrelationService};
pub use delay_on_error::{DelayOnError, DelayOnErrorFuture, DelayOnErrorService, Delayed};
pub use duplicator::{Duplicator, DuplicatorService};
use error_predicate::ErrorPredicate;
pub use ignore_errors::{IgnoreErrors, IgnoreErrorsFuture, IgnoreErrorsService};
pub use instant_ack::{InstantAck, InstantAckService};
pub use poison_queue::{PoisonQueue, PoisonQueueFuture, PoisonQueueService};
pub use random_fail::{InvalidProbability, RandomFail, RandomFailService, RandomFailure};
pub use random_panic::{RandomPanic, RandomPanicService};
pub use recoverer::{Recoverer, RecovererFuture, RecovererService};
pub use retry::{Retry, RetryFuture, RetryService};
pub use throttle::{InvalidRate, Throttle, ThrottleService};
pub use timeout::{Elapsed, Timeout, TimeoutFuture, TimeoutService};
