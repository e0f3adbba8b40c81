#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod assigned;
mod client;
mod config;
mod context;
mod dead_letters;
mod elsewhere;
mod error;
mod group;
mod lag;
mod ledger;
mod log;
mod marshaler;
mod notifier;
mod peek;
mod producer;
mod publisher;
mod queue;
mod replay;
mod report;
mod service;
mod settle;
mod silence;
mod status;
mod subscriber;
mod subscription;
mod topic_locks;
mod topics;
mod transactions;

pub use config::{CreateTopics, KafkaPublisherConfig, KafkaSubscriberConfig, StartPosition};
pub use lag::PartitionLag;
pub use peek::PeekedMessage;
pub use publisher::KafkaPublisher;
pub use status::{GroupStatus, KafkaStatus, PartitionStatus};
pub use subscriber::KafkaSubscriber;
pub use transactions::{KafkaExactlyOncePublisher, KafkaFencedPublisher, KafkaTransactionalPublisher};

/// The backend's short name.
const BACKEND: &str = "kafka";
