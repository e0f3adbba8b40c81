#![doc = include_str!("../README.md")]

mod access;
mod clients;
mod config;
mod dead_letters;
mod error;
mod lease;
mod limits;
mod marshaler;
mod outbox;
mod publisher;
mod pull;
mod returning;
mod settle;
mod subscriber;
mod subscriptions;
mod topics;

pub use access::PubSubAccess;
pub use config::{NewSubscription, OrderingKeys, PubSubPublisherConfig, PubSubSubscriberConfig};
pub use lease::PubSubDelivery;
pub use publisher::PubSubPublisher;
pub use subscriber::PubSubSubscriber;

/// The backend's short name.
const BACKEND: &str = "pubsub";
