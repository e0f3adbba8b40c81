#![doc = include_str!("../README.md")]

mod call_size;
mod config;
mod control;
pub mod dead_letters;
mod destination;
mod end;
mod envelope;
mod error;
mod fenced;
mod forwarder;
mod key;
mod outbox_time;
mod publisher;
mod relay;
mod report;
mod shards;
mod status;
mod wait;

#[doc = include_str!("outboxes.md")]
pub mod outboxes {}

pub use config::{ForwarderConfig, OnUnreadable};
pub use control::ForwarderControl;
pub use destination::DestinationFrom;
pub use envelope::{Envelope, EnvelopeError, EnvelopeErrorKind};
pub use error::{ForwarderError, ForwarderErrorKind};
pub use fenced::{FencedForwarder, FencedForwarderBuilder};
pub use forwarder::{Forwarder, ForwarderBuilder};
pub use key::KeyFrom;
pub use outbox_time::OutboxTime;
pub use publisher::ForwarderPublisher;
pub use report::{DestinationReport, ForwarderReport};
pub use status::{ForwarderStatus, Held};

/// The topic that envelopes travel through unless said otherwise, the same as in Go Watermill.
pub const DEFAULT_TOPIC: &str = "forwarder_topic";

/// The topic for what cannot be forwarded, unless said otherwise.
pub const DEFAULT_DEAD_LETTER_TOPIC: &str = "forwarder_dead_letter";

/// What dead letters name as the handler that failed.
const HANDLER: &str = "forwarder";
