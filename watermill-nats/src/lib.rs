#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod config;
mod core_nats;
mod error;
mod marshaler;
mod publisher;
mod pulls;
mod settle;
mod subject;
mod subscriber;

pub use config::{NatsPublisherConfig, NatsSubscriberConfig, StartPosition};
pub use core_nats::{CoreNatsConfig, CoreNatsPublisher, CoreNatsSubscriber};
pub use publisher::NatsPublisher;
pub use subscriber::NatsSubscriber;

/// The backend's short name.
const BACKEND: &str = "nats";
