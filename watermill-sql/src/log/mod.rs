//! The log layout: messages stay, and each consumer group reads all of them in order.
//!
//! Of all subscriptions of a group one reads: it owns the group's [`lease`], fetches rows behind its position
//! and moves that when they are done.

mod config;
mod dialect;
mod held_back;
mod last_row;
mod lease;
mod ledger;
mod progress;
mod reader;
mod recorder;
mod renewals;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod start;
mod subscriber;

pub(crate) use config::GROUP_CHARS_MAX;
pub use config::{CommitOrder, SqlSubscriberConfig, StartPosition};
pub(crate) use dialect::Cursor;
pub(crate) use dialect::LogDialect;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Fetched, LastRow, LeaseDialect, Place};
pub use held_back::HeldBack;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use held_back::Holder;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use last_row::to_the_beginning;
#[cfg(all(test, feature = "postgres", feature = "mysql"))]
pub(crate) use lease::VERSION;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use lease::{Claim, Claimed, Lease, LeaseRow, Taken, millis};
#[cfg(all(test, feature = "postgres", feature = "mysql"))]
pub(crate) use ledger::Limits;
pub(crate) use ledger::{LogLedger, Save};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use progress::Progress;
pub(crate) use recorder::{Recorder, Recording};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use start::{NEWEST, behind};
pub use subscriber::SqlSubscriber;
