//! [`Lease`]: the right to read a topic for a group.
//!
//! The table `_watermill_leases` has a row for each topic and group: who owns it, until when by the
//! database's clock, and a fencing token that grows with every change of hands. No topic can have a
//! table of that name. Go knows nothing of it:
//! each database's `lease.rs` says how a Go reader at work is noticed.

use std::time::Duration;

use super::{SqlSubscriberConfig, progress::Progress};
use crate::{position::Position, topic::Tables};

/// Who wants a lease.
#[derive(Debug)]
pub struct Claim<'a> {
    pub(crate) tables: &'a Tables,
    /// Unique to the subscription.
    pub(crate) owner: &'a str,
    /// The group, how long the lease is, and where a group begins whose row has gone.
    pub(crate) config: &'a SqlSubscriberConfig,
}

/// The answer to a [`Claim`].
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Taken),
    /// Another has it.
    Held {
        /// Who, for people.
        by: String,
        /// How long at most, unless it is renewed.
        remaining: Duration,
    },
}

/// A lease that was just taken, and what the owners before have left.
#[derive(Debug)]
pub struct Taken {
    pub(crate) lease: Lease,
    pub(crate) progress: Progress,
    /// Rows up to here may have been delivered by an owner that did not give its lease back.
    pub(crate) unclear_up_to: Option<Position>,
}

/// A lease that is ours as far as we know. What is written under it is compared with what was read.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(crate) tables: Tables,
    pub(crate) group: String,
    pub(crate) owner: String,
    /// The fencing token.
    pub(crate) token: i64,
    /// The position that we last read or wrote: everything up to it is done.
    pub(crate) position: Position,
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only SQLite's tables have that column"))]
    /// What we last wrote to Go's column, where there is one: a Go reader that takes over changes it.
    pub(crate) locked_until: i64,
}
