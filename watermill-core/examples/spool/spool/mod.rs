//! A backend whose topics are directories: a message is a file, and a rename is all it takes to own it.
//!
//! | files | are about |
//! |---|---|
//! | `directory.rs`, `marshaler.rs` | the medium |
//! | `error.rs`, `publisher.rs`, `subscriber.rs`, `settle.rs` | the kit and the two traits |

mod directory;
mod error;
mod marshaler;
mod publisher;
mod settle;
mod subscriber;

pub(crate) use publisher::SpoolPublisher;
pub(crate) use subscriber::SpoolSubscriber;

/// The backend's short name.
const BACKEND: &str = "spool";
