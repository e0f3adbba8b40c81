#![doc = include_str!("../README.md")]

mod config;
mod error;
mod marshaler;
mod publisher;

pub use config::{ConfigError, CreateTopics, KafkaPublisherConfig, KafkaSubscriberConfig, StartPosition};
pub use publisher::KafkaPublisher;

/// The backend's short name.
const BACKEND: &str = "kafka";
