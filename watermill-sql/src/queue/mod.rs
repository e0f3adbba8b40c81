//! The queue layout: each message is handled by one of many workers and then gone.
//!
//! A message is a row, and its row says when it is due. A worker that claims it makes it due when the
//! visibility timeout ends, under its own name and with one attempt more. One column is therefore the
//! delay of a message, that of a nack, and the end of a dead worker's claim. A message that was never delayed needs
//! no time, so that no clock hides it: it has zero there. So that such messages do not keep others waiting for ever,
//! every eighth claim begins with those that had to wait.

mod claims;
mod config;
mod dialect;
mod ordered;
mod reader;
mod subscriber;

pub(crate) use claims::Claims;
pub use config::{OnAck, SqlQueueSubscriberConfig};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{CLAIMS_LOOKED_AT, Claimed, KeyClaim, Release, Turn};
pub(crate) use dialect::{Claim, Queue, QueueDialect};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{json, json_pairs};
pub(crate) use ordered::OrderedDialect;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use ordered::{ASIDE_MS, Bounds, LOOKED_AT, Look};
pub use subscriber::SqlQueueSubscriber;
