#![doc = include_str!("../README.md")]

mod envelope;
mod publisher;

pub use envelope::{Envelope, EnvelopeError, EnvelopeErrorKind};
pub use publisher::ForwarderPublisher;

/// The topic that envelopes travel through unless said otherwise, the same as in Go Watermill.
pub const DEFAULT_TOPIC: &str = "forwarder_topic";
