#![doc = include_str!("../README.md")]

mod config;
mod dialect;
mod error;
mod lease;
mod ledger;
mod marshaler;
mod progress;
mod publisher;
mod reader;
mod schema;
mod settle;
mod subscriber;
mod topic;
mod transaction;
mod wake;

#[cfg(feature = "sqlite")]
mod sqlite;

pub use config::{ConfigError, SqlPublisherConfig, SqlSubscriberConfig, StartPosition};
pub use dialect::SqlDatabase;
pub use publisher::SqlPublisher;
pub use subscriber::SqlSubscriber;
pub use transaction::ConnectionPublisher;
