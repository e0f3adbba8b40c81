//! Core NATS: what nobody has subscribed to just then is gone.

mod config;
mod publisher;
mod settle;
mod subscriber;

pub use config::CoreNatsConfig;
pub use publisher::CoreNatsPublisher;
pub use subscriber::CoreNatsSubscriber;

/// The short name of this one.
const BACKEND: &str = "core-nats";
