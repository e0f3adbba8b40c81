#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "SQL publisher and subscriber for watermill; choose a database by its feature."
)]
#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
    expect(dead_code, reason = "what only a database's own files use")
)]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod dead_letter;
mod dialect;
mod error;
mod held_back;
mod lease;
mod ledger;
mod listener;
mod marshaler;
mod pooled;
mod position;
mod progress;
mod publisher;
mod queue;
mod reader;
mod retention;
mod schema;
mod settle;
mod stored;
mod subscriber;
mod topic;
mod transaction;
mod wake;

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use config::{
    CommitOrder, Layout, PayloadColumn, SqlPublisherConfig, SqlSubscriberConfig, StartPosition,
};
pub use dialect::SqlDatabase;
pub use held_back::HeldBack;
pub use publisher::SqlPublisher;
pub use queue::{OnAck, SqlQueueSubscriber, SqlQueueSubscriberConfig};
pub use retention::{RetentionError, RetentionErrorKind, RetentionReport, SqlRetention, SqlRetentionConfig};
pub use subscriber::SqlSubscriber;
pub use transaction::ConnectionPublisher;
