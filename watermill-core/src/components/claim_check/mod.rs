//! Claim check: a large payload goes to a store, and the message carries the claim to it.
//!
//! A [`ClaimCheckPublisher`] puts payloads above a size into a [`ClaimStore`] and publishes the message without, with the
//! claim in its metadata; a [`ClaimCheckSubscriber`] fetches them before anybody sees the message. Small messages pass
//! as they are, readable for Go and everybody else. A [`FileStore`] is a folder; for buckets there is the crate
//! `watermill-object-store`.
//!
//! ```
//! use std::time::Duration;
//! use watermill_core::{MemoryBroker, components::claim_check::{ClaimCheckPublisher, ClaimCheckSubscriber, FileStore}};
//!
//! # fn set_up(folder: &std::path::Path) {
//! let broker = MemoryBroker::new();
//! let store = FileStore::new(folder);
//! let publisher = ClaimCheckPublisher::new(broker.publisher(), store.clone())
//!     .above(64 * 1024)
//!     .keep_for(Duration::from_secs(7 * 24 * 3600));
//! let subscriber = ClaimCheckSubscriber::new(broker.subscriber(), store);
//! # }
//! ```

mod expiry;
mod file_store;
mod publisher;
mod store;
mod subscriber;

pub use expiry::RemoveExpired;
pub use file_store::FileStore;
pub use publisher::ClaimCheckPublisher;
pub use store::{Claim, ClaimError, ClaimErrorKind, ClaimStore};
pub use subscriber::ClaimCheckSubscriber;
