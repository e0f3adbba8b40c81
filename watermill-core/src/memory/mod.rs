#![doc = include_str!("README.md")]

mod broker;
mod config;
mod error;
mod group;
mod marshaler;
mod outstanding;
mod publisher;
mod settle;
mod subscriber;
mod topic;

pub use broker::MemoryBroker;
pub use config::{History, MemoryConfig};
pub(crate) use marshaler::{OnReject, Record};
pub use publisher::MemoryPublisher;
pub use subscriber::MemorySubscriber;

/// The backend's short name.
pub(crate) const BACKEND: &str = "memory";
