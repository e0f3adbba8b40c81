//! [`Lease`]: the right to read a topic for a group.
//!
//! The table `_watermill_leases` has a row for each topic and group: who owns it, until when by the
//! database's clock, and a fencing token that grows with every change of hands. No topic can have a
//! table of that name. Go knows nothing of it:
//! each database's `lease.rs` says how a Go reader at work is noticed.
//!
//! Its column `version` is that of whoever has claimed the row last. Two releases of a service run side by side
//! while it is updated, so columns are only added, with a default or nullable; each release works with rows of the
//! version before its own and after it, and brings the table up to date by adding what it lacks. What an older
//! release does not write it leaves as it was, so what is about one owner goes with that owner's token, in
//! `told_token`.

use std::{sync::Arc, time::Duration};

use super::{SqlSubscriberConfig, progress::Progress};
use crate::{position::Position, topic::Tables};

/// The version of the table that this release writes.
pub(crate) const VERSION: i64 = 2;

/// What is written instead by who reads a group in shards. It is no version that a release comes to, so that whoever does not
/// read in shards takes it for one that is too new, and leaves the group alone.
pub(crate) const SHARDED: i64 = 1_000_000;

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
    /// It was written by a release that is further from this one than two that run side by side.
    TooNew {
        /// Its version.
        version: i64,
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
    /// How long it is. Whoever has its row locked falls silent for no longer.
    pub(crate) length: Duration,
    /// The position that we last read or wrote: everything up to it is done.
    pub(crate) position: Position,
    /// The connection by which others see that we live, as the server calls it.
    pub(crate) witness: Option<Arc<str>>,
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only SQLite's tables have that column"))]
    /// What we last wrote to Go's column, where there is one: a Go reader that takes over changes it.
    pub(crate) locked_until: i64,
}

/// The row of a lease, as who wants it sees it.
#[derive(Debug)]
pub(crate) struct LeaseRow {
    pub(crate) version: i64,
    pub(crate) owner: Option<String>,
    #[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "the others count it up where it is"))]
    pub(crate) token: i64,
    /// How much longer it is, in milliseconds, by the database's clock.
    pub(crate) remaining_ms: i64,
    /// How long its owner has asked for, if it said so.
    pub(crate) lease_ms: Option<i64>,
    /// Whether the connection has ended by which its owner is seen.
    pub(crate) is_disconnected: bool,
    pub(crate) progress: String,
}

impl LeaseRow {
    /// Why it cannot be had.
    pub(crate) fn held(&self, claim: &Claim<'_>) -> Option<Claimed> {
        let is_ours = self.version == SHARDED && claim.config.shard.is_some();
        if self.version > VERSION + 1 && !is_ours {
            return Some(Claimed::TooNew { version: self.version });
        }
        let owner = self.owner.as_deref().filter(|owner| *owner != claim.owner)?;
        let remaining = self.remaining(claim.config.lease)?;
        (!self.is_disconnected).then(|| Claimed::Held { by: owner.to_owned(), remaining })
    }

    /// How much longer it is, unless it is over. One that has longer to go than it is long was written before the
    /// database's clock went back: clocks are put right by little while the owner lives, so twice as long will do.
    pub(crate) fn remaining(&self, lease: Duration) -> Option<Duration> {
        let lease_ms = self.lease_ms.unwrap_or_else(|| millis(lease));
        let is_running = (1..=lease_ms.saturating_mul(2)).contains(&self.remaining_ms);
        let remaining_ms = u64::try_from(self.remaining_ms.min(lease_ms)).unwrap_or(0);
        is_running.then(|| Duration::from_millis(remaining_ms))
    }
}

/// As the table has it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(remaining_ms: i64, lease_ms: Option<i64>) -> LeaseRow {
        LeaseRow {
            version: VERSION,
            owner: Some("other".to_owned()),
            token: 1,
            remaining_ms,
            lease_ms,
            is_disconnected: false,
            progress: String::new(),
        }
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_or_longer_than_it_can_be() {
        let lease = Duration::from_secs(5);
        assert_eq!(row(3_000, None).remaining(lease), seconds(3));
        assert_eq!(row(0, None).remaining(lease), None);
        assert_eq!(row(-1, None).remaining(lease), None);
        assert_eq!(row(600_000, None).remaining(lease), None);
        // A clock that was put right by a little.
        assert_eq!(row(5_100, None).remaining(lease), seconds(5));
        assert_eq!(row(60_000, Some(60_000)).remaining(lease), seconds(60), "its owner's length counts");
    }
}
