//! [`QueueDialect`]: everything about queues that differs between databases.

use std::time::Duration;

use async_trait::async_trait;

use super::OnAck;
use crate::{
    error::Failure,
    publisher::InsertDialect,
    source::SourceDialect,
    stored::{Limit, Row},
    topic::Tables,
    watch::WatchDialect,
};

/// The statements of one database for queues. Each works on a connection that may be inside a
/// transaction, unless it says otherwise.
#[async_trait]
pub trait QueueDialect: InsertDialect + SourceDialect + WatchDialect {
    /// Whether what is done with is passed by whoever looks for the next rows, until something sweeps it out.
    const LEAVES_DEAD_ROWS: bool = false;

    /// Refuses servers and tables where claims would not hold.
    async fn check_queue(connection: &mut Self::Connection, tables: &Tables) -> Result<(), Failure>;

    /// Claims rows that are due and that nobody has. Not inside a transaction, and with one message to the server.
    /// Those that need no time to be due come first, and those that do in the order of their times. `turn` may
    /// leave the first out.
    async fn claim_rows(
        connection: &mut Self::Connection,
        queue: &Queue,
        turn: Turn,
        limit: Limit,
    ) -> sqlx::Result<Vec<Claimed>>;

    /// Ends claims that have longer to go than they are long, because the database's clock has gone back since
    /// their worker died: of the [`CLAIMS_LOOKED_AT`] rows that are due next. Returns whether there were any.
    async fn end_claims(connection: &mut Self::Connection, queue: &Queue) -> sqlx::Result<bool>;

    /// In how long the next message is due that is not now: a delayed one, or one whose worker may die.
    async fn next_due(connection: &mut Self::Connection, queue: &Queue) -> sqlx::Result<Option<Duration>>;

    /// Keeps rows out of sight from now on for another visibility timeout. Returns the offsets of those
    /// that are ours.
    async fn extend_claims(
        connection: &mut Self::Connection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>>;

    /// Deletes or marks rows that are ours. Returns the offsets of those that are done.
    async fn finish_rows(
        connection: &mut Self::Connection,
        queue: &Queue,
        claims: &[Claim],
    ) -> sqlx::Result<Vec<i64>>;

    /// Lets rows go that are ours, and returns their offsets. Those of others are left alone.
    async fn unclaim_rows(
        connection: &mut Self::Connection,
        queue: &Queue,
        releases: &[Release],
    ) -> sqlx::Result<Vec<i64>>;
}

/// How many rows one look for claims of another time is about, which bounds what it costs.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) const CLAIMS_LOOKED_AT: usize = 1_000;

/// Which rows a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All that are due.
    All,
    /// Of those that need no time only from an offset on.
    From(i64),
    /// Those that had to wait for a time: delayed, nacked, or claimed by who has died.
    Waited,
}

impl Turn {
    /// The first due time that counts. What needs no time to be due has none.
    pub(crate) fn first_ms(self) -> i64 {
        match self {
            Self::All | Self::From(_) => 0,
            Self::Waited => 1,
        }
    }

    /// The first offset that counts among those.
    #[cfg(feature = "postgres")]
    pub(crate) fn first_offset(self) -> i64 {
        match self {
            Self::From(offset) => offset,
            Self::All | Self::Waited => i64::MIN,
        }
    }
}

/// A queue, as one subscription works on it.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) tables: Tables,
    /// Unique to the subscription. Its visibility timeout in milliseconds follows behind a space, so that others know
    /// how long its claims can be.
    pub(crate) owner: String,
    pub(crate) visibility_timeout: Duration,
    pub(crate) on_ack: OnAck,
    /// Whether messages of one key follow one another.
    pub(crate) ordered: bool,
}

impl Queue {
    pub(crate) fn timeout_ms(&self) -> i64 {
        i64::try_from(self.visibility_timeout.as_millis()).unwrap_or(i64::MAX)
    }

    /// What a row that is let go of loses beside its owner.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn let_go(&self) -> &'static str {
        if self.ordered { "owner = null, holds_key = null" } else { "owner = null" }
    }
}

/// A row that is ours as far as we know. With the owner, the attempt names one claim for ever: it grows
/// with each, so that who had the row before cannot settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
}

/// The answer to a claim: a row, and how often it has been claimed.
#[derive(Debug)]
pub struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) row: Row,
    /// The database's clock, in milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
    /// What Go's column for due times says, where there is one.
    pub(crate) go_due_ms: Option<i64>,
    /// Its key, in a queue that is in order by key.
    pub(crate) key: Option<KeyClaim>,
}

impl Claimed {
    pub(crate) fn new(row: Row, attempt: u32, now_ms: i64, go_due_ms: Option<i64>) -> Self {
        let claim = Claim { offset: row.position.offset, attempt };
        Self { claim, row, now_ms, go_due_ms, key: None }
    }
}

/// The key of a row that was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyClaim {
    /// A hash of it. Two keys may share one, seldom: then they wait for each other, and each keeps its order.
    pub(crate) key: i64,
    /// Whether the row holds the key for all that were claimed with it.
    pub(crate) holds: bool,
}

/// A row that is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub(crate) claim: Claim,
    /// How long it stays out of sight.
    pub(crate) delay: Duration,
    /// Whether it was tried, which counts.
    pub(crate) tried: bool,
}

impl Release {
    /// The attempts that are written.
    pub(crate) fn attempts(self) -> u32 {
        if self.tried { self.claim.attempt } else { self.claim.attempt.saturating_sub(1) }
    }

    /// When it is due again, and whether that is counted from now on. What waits for no time depends on no clock, and is
    /// the first of those that had to wait.
    pub(crate) fn due(self) -> (i64, bool) {
        // A delay too long to be added up is as good as a century.
        const CENTURY: i64 = 100 * 365 * 24 * 3_600 * 1_000;
        match self.delay.is_zero() {
            true => (Turn::Waited.first_ms(), false),
            false => (i64::try_from(self.delay.as_millis()).unwrap_or(CENTURY).min(CENTURY), true),
        }
    }
}

/// Claims as a JSON array of pairs of offset and attempt, for databases that bind no arrays.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) fn json_pairs(claims: &[Claim]) -> String {
    json(&claims.iter().map(|claim| (claim.offset, claim.attempt)).collect::<Vec<_>>())
}

/// Numbers as a JSON array.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) fn json(numbers: &impl serde::Serialize) -> String {
    // Numbers always serialise.
    serde_json::to_string(numbers).unwrap_or_default()
}
