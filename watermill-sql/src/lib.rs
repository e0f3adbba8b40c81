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

mod broadcast;
mod connection;
mod database;
mod dead_letter;
mod dialect;
mod error;
mod fenced;
mod inbox;
mod layout;
mod log;
mod marshaler;
mod pace;
mod position;
mod publisher;
mod queue;
mod retention;
mod schedules;
mod schema;
mod settle;
mod shards;
mod source;
mod status;
mod stored;
mod topic;
mod wake;
mod watch;

#[cfg(all(test, feature = "postgres", feature = "mysql"))]
mod model;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod url;

pub use broadcast::SqlBroadcast;
pub use database::SqlDatabase;
pub use fenced::SqlFencedPublisher;
pub use inbox::{
    BatchInTransaction, InboxError, InboxErrorKind, InboxLayer, InboxService, Isolation, OnDuplicate,
    SqlInbox, SqlInboxConfig, Tx,
};
pub use layout::{Layout, PayloadColumn};
pub use log::{CommitOrder, HeldBack, SqlSubscriber, SqlSubscriberConfig, StartPosition};
pub use publisher::{ConnectionPublisher, SqlPublisher, SqlPublisherConfig};
pub use queue::{OnAck, SqlQueueSubscriber, SqlQueueSubscriberConfig};
pub use retention::{RetentionError, RetentionErrorKind, RetentionReport, SqlRetention, SqlRetentionConfig};
pub use schedules::{FiredReport, Firing, Missed, Schedule, ScheduleError, ScheduleErrorKind, SqlSchedules};
pub use shards::{ShardCount, SqlShardCounts};
pub use source::{AfterAck, SqlSource};
pub use status::{
    Count, GroupStatus, LogStatus, OwnerStatus, PeekedMessage, QueueStatus, SqlStatus, WriterStatus,
};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub use url::{HeldBackGauge, SqlNeeds, SqlPool, SqlUrl, publisher_from_url, subscriber_from_url};
