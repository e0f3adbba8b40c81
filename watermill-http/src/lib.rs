#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod client;
mod cloud_events;
mod config;
mod connector;
mod error;
mod events;
mod hosts;
mod marshaler;
mod publisher;
mod route;
mod seldom;
mod settle;
mod signature;
mod subscriber;

pub use config::{HttpPublisherConfig, HttpSubscriberConfig};
pub use events::{EventStream, EventStreamConfig};
pub use publisher::HttpPublisher;
pub use signature::{Secret, SecretError};
pub use subscriber::HttpSubscriber;

/// The backend's short name.
const BACKEND: &str = "http";
