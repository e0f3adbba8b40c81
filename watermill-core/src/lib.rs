#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
pub mod backoff;
pub mod cloud_events;
pub mod components;
pub mod cqrs;
pub mod dead_letter;
pub mod decorator;
pub mod delay;
pub mod delivery;
pub mod error;
pub mod fenced;
#[cfg(test)]
mod fixtures;
pub mod go_duration;
mod handling;
pub mod memory;
pub mod message;
pub mod metadata_keys;
pub mod middleware;
mod panic;
pub mod publisher;
pub mod request_reply;
pub mod router;
mod settle;
pub mod subscriber;
pub mod subscription;

pub use backoff::Backoff;
pub use dead_letter::DeadLetter;
pub use delivery::{Delivery, DeliveryInfo, Settlement};
pub use memory::{MemoryBroker, MemoryPublisher, MemorySubscriber};
pub use message::{HandlerInfo, Message, MessageId, Metadata};
pub use publisher::{Publisher, PublisherExt};
pub use router::{FailurePolicy, Handler, Handlers, Json, Outputs, RetryTopics, Router, State};
pub use subscriber::Subscriber;
pub use subscription::{Subscription, Window};
#[cfg(feature = "macros")]
pub use watermill_macros::{debug_batch_handler, debug_handler};
