//! Redis pub/sub: channels, which nobody stores.

mod config;
mod listening;
mod marshaler;
mod publisher;
mod subscriber;
mod transport;

pub use config::{RedisPubSubPublisherConfig, RedisPubSubSubscriberConfig};
pub use publisher::RedisPubSubPublisher;
pub use subscriber::RedisPubSubSubscriber;

/// The short name: a channel is another place than a stream of the same name.
const BACKEND: &str = "redis_pubsub";
