//! A backend whose topics are directories: a message is a file, and a rename is all it takes to own it.
//!
//! | file | about | lines |
//! |---|---|---|
//! | `directory.rs`, `marshaler.rs`, `error.rs` | the medium: any program that shares such a directory needs it | MEDIUM |
//! | `publisher.rs`, `subscriber.rs`, `settle.rs` | the kit and the two traits | KIT |

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
