//! One atomic step: a message's mark, what its handler writes and what it publishes, in one transaction.
//!
//! [`Step`](step::Step) is the protocol: begin and mark, run, publish, check, commit, and again from the beginning after a
//! conflict. The [layer](layer), [`SqlInbox::once`] and the [batch](batch) are three ways to hand the transaction to
//! somebody in between.

mod batch;
mod config;
mod dialect;
mod error;
mod joined;
mod layer;
mod mark;
mod open;
mod outbox;
mod retention;
mod shared;
mod sql_inbox;
mod step;
mod tx;

pub use batch::BatchInTransaction;
pub use config::{Isolation, OnDuplicate, SqlInboxConfig};
pub(crate) use dialect::InboxDialect;
pub use error::{InboxError, InboxErrorKind};
pub use layer::{InboxLayer, InboxService};
pub(crate) use shared::Wrap;
pub use sql_inbox::SqlInbox;
pub use tx::Tx;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use mark::hex;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use {dialect::Beginning, mark::Mark};
