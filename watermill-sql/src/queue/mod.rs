//! The queue layout: each message is handled by one of many workers and then gone.
//!
//! A message is a row. A worker that takes it writes a *claim* into a table of ours beside it, so that
//! the row is as Go made it and is not written again before it is deleted: who has it, how often it has
//! been tried, and until when it is out of sight of others.

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
