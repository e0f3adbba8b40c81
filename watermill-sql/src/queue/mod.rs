//! The queue layout: each message is handled by one of many workers and then gone.
//!
//! A message is a row, and its row says when it is due. A worker that claims it makes it due when the
//! visibility timeout ends, under its own name and with one attempt more. One column is therefore the
//! order of the queue, the delay of a message, that of a nack, and the end of a dead worker's claim.

mod claims;
mod config;
mod dialect;
mod intake;
mod reader;
mod record;
mod subscriber;

pub(crate) use claims::Claims;
pub use config::{OnAck, SqlQueueSubscriberConfig};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Claim, Claimed, Release};
pub(crate) use dialect::{Queue, QueueDialect};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{json, json_pairs};
pub use subscriber::SqlQueueSubscriber;
