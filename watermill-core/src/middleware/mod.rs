//! Middleware as tower layers: one file, one type, one name.
//!
//! Every service in a router is a [`tower::Service`] of [`Message`](crate::Message) with
//! [`Outputs`](crate::Outputs) as its response, so tower's own layers work around handlers unmodified.
//!
//! A type here is a layer with its settings: `.layer(Retry::new(5))`. `Retry` is the
//! [`Layer`](tower::Layer), `RetryService` what it makes of a service, `RetryFuture` the future of
//! that. A layer that holds state makes a new one for each handler it is put around; clones of the
//! service share it.
//!
//! # Which layer, and in which order
//!
//! The layer that is added first is the outermost: it sees a message first and its result last.
//! From the outside in:
//!
//! | layer | what it does | why it stands here |
//! |---|---|---|
//! | [`Throttle`] | limits the rate by pausing the intake | counts messages, not tries |
//! | [`Correlation`] | passes correlation ids on | covers all that is published further in |
//! | [`InstantAck`] | acks before handling: at most once | acks once for all tries |
//! | [`Deduplicator`] | handles a repeat only once | a dead-lettered message is done too; a duplicate in progress is nacked wherever it stands |
//! | [`PoisonQueue`] | publishes what failed elsewhere | needs the last error, turns it into success |
//! | [`DelayOnError`] | attaches a delay for the poison queue | its delay travels outwards with the error |
//! | [`CircuitBreaker`] | pauses the intake after failures in a row | needs the errors, counts messages and not tries |
//! | [`ThrottleByKey`] | holds a message back when its key had its share | counts messages, not tries |
//! | [`Retry`] | tries again in place | needs the errors of each try |
//! | [`Timeout`] | drops a try that takes too long | each try has the whole time |
//! | [`Recoverer`] | turns panics into errors | the layers above treat them alike |
//! | [`IgnoreErrors`] | turns certain errors into success | the layers above need not know them |
//! | [`Duplicator`], [`RandomFail`], [`RandomPanic`] | test aids | the others have to cope with them |
//!
//! Right: the poison queue gets what is left of an error after all tries.
//!
//! ```
//! use std::time::Duration;
//!
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use watermill_core::{Message, Outputs, Publisher, error::BoxError};
//! use watermill_core::middleware::{PoisonQueue, Recoverer, Retry, Timeout};
//!
//! # async fn run(publisher: impl Publisher + 'static) -> Result<(), BoxError> {
//! let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
//! let service = ServiceBuilder::new()
//!     .layer(PoisonQueue::new(publisher, "billing.dead")?)
//!     .layer(Retry::new(5))
//!     .layer(Timeout::new(Duration::from_secs(5)))
//!     .layer(Recoverer::new())
//!     .service(handler);
//! service.oneshot(Message::new("x")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Wrong: `.layer(Retry::new(5)).layer(PoisonQueue::new(..)?)`. The poison queue is inside, so the
//! first failure is dead-lettered at once and the retry sees nothing but success. Where retries,
//! timeouts and dead letters are all you want, a [`FailurePolicy`](crate::FailurePolicy) says them in
//! one place and cannot be stacked wrongly.
//!
//! # Whose fault an error is
//!
//! Layers and policies take one decision from an error, its [`Verdict`](crate::error::Verdict): try again,
//! give up, ignore, or nack. An error that is marked with [`Nack`](crate::error::Nack) says "not now, and not
//! the message's fault": no layer tries again, dead-letters or ignores it, and the message comes again later.
//! A layer of yours that turns messages away marks its error so.
//!
//! # The intake valve
//!
//! A router asks a service whether it is ready before it takes a message. [`Throttle`], an open
//! [`CircuitBreaker`] and tower's `ConcurrencyLimit` or `RateLimit` are not ready for a while: then
//! messages stay in the backend and nothing is nacked. Every layer here passes the question on to
//! what is inside.
//!
//! # What a layer costs
//!
//! Futures are written by hand and allocate nothing for a message that is handled, except where a
//! layer's docs say so: [`Deduplicator`] and [`Duplicator`] box theirs. A [`PoisonQueue`] and a
//! [`Retry`] keep a clone of the message, which shares its content.

mod circuit_breaker;
mod correlation;
mod deduplicator;
mod delay_on_error;
mod duplicator;
mod ignore_errors;
mod instant_ack;
mod poison_queue;
mod random_fail;
mod random_panic;
mod recoverer;
mod retry;
mod throttle;
mod throttle_by_key;
mod timeout;

pub use circuit_breaker::{BreakerState, CircuitBreaker, CircuitBreakerFuture, CircuitBreakerService};
pub use correlation::{Correlation, CorrelationFuture, CorrelationService};
pub use deduplicator::{
    DeduplicatingPublisher, DeduplicationKey, DeduplicationStore, Deduplicator, DeduplicatorService,
    InProgress, MemoryDeduplicationStore, Reservation, Reserved,
};
pub use delay_on_error::{DelayOnError, DelayOnErrorFuture, DelayOnErrorService};
pub use duplicator::{Duplicator, DuplicatorService};
pub use ignore_errors::{IgnoreErrors, IgnoreErrorsFuture, IgnoreErrorsService};
pub use instant_ack::{InstantAck, InstantAckService};
pub use poison_queue::{PoisonQueue, PoisonQueueFuture, PoisonQueueService};
pub use random_fail::{InvalidProbability, RandomFail, RandomFailService, RandomFailure};
pub use random_panic::{RandomPanic, RandomPanicService};
pub use recoverer::{Recoverer, RecovererFuture, RecovererService};
pub use retry::{Retry, RetryFuture, RetryService};
pub use throttle::{InvalidRate, Throttle, ThrottleService};
pub use throttle_by_key::{ThrottleByKey, ThrottleByKeyFuture, ThrottleByKeyService};
pub use timeout::{Elapsed, Timeout, TimeoutFuture, TimeoutService};
