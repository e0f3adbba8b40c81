#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod connection;
mod error;
mod marshaler;
mod publisher;
mod pubsub;
mod settle;
mod subscriber;

pub use config::{RedisPublisherConfig, RedisSubscriberConfig, StartPosition};
pub use publisher::RedisPublisher;
pub use pubsub::*;
pub use subscriber::RedisSubscriber;

/// The backend's short name.
const BACKEND: &str = "redis";
