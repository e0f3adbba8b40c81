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
pub(crate) use dialect::{Claim, Claimed, Queue, QueueDialect, Release};
pub use subscriber::SqlQueueSubscriber;
