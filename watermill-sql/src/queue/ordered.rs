//! [`OrderedDialect`]: queues in order by key.
//!
//! Of each key the oldest row that is not done with is its head, and a key is claimed from its head on: one row, or a run
//! of several that are due. The table has the key of each message in a column that the database makes of the metadata,
//! `ordering_key`, with an index that finds a key's head. So that two workers never have one key, the last row of a run
//! has the key in `holds_key`, too, which a unique index lets no other row have: also when a row with a lower offset was
//! committed after the claim and is the head now. While a worker has a key, and its window lets it hand out more, it alone
//! claims what comes behind; and when the row that holds a key is done with before others, one of those does.
//!
//! Rows behind a head would be looked at by every claim. The first that meets them sets them aside: their due time is
//! [`ASIDE_MS`], where no claim looks. Whoever finishes the last row that he has of a key sets the due time of the key's
//! next row back. A row is set aside while an older one of its key is locked, so that it cannot be finished
//! meanwhile; a row that is aside therefore always has an older one, unless somebody has deleted that by hand.

use async_trait::async_trait;

use super::{
    QueueDialect,
    dialect::{Claim, Claimed, Queue, Turn},
};

/// The due time of rows that wait for an older one of their key, later than any other.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) const ASIDE_MS: i64 = 9_000_000_000_000_000_000;

/// The most rows of one key in one claim: what one worker handles before another may go on with the key.
pub(crate) const RUN_MAX: usize = 32;

/// How many rows are looked at that may have to be set aside, and how many keys that may have to be mended.
pub(crate) const LOOKED_AT: usize = 2_000;

/// The statements of one database for queues in order by key. Each works on a connection that may be inside a
/// transaction, unless it says otherwise.
#[async_trait]
pub trait OrderedDialect: QueueDialect {
    /// Claims keys that nobody has and whose heads are due, and rows without a key, as [`QueueDialect::claim_rows`]
    /// does. Of keys that are ours by one of the rows in `holders` it claims what comes behind what we have; nothing that is
    /// ours may be finished or let go meanwhile.
    async fn claim_in_order(
        connection: &mut Self::Connection,
        queue: &Queue,
        turn: Turn,
        bounds: Bounds,
        holders: &[i64],
    ) -> sqlx::Result<Look>;

    /// Sets rows aside that have an older one of their key before them: of the [`LOOKED_AT`] that are due first. Returns how
    /// many. Not inside a transaction.
    async fn set_aside(connection: &mut Self::Connection, queue: &Queue) -> sqlx::Result<u64>;

    /// Takes keys from workers whose claims have run out. Not inside a transaction.
    async fn end_holds(connection: &mut Self::Connection, queue: &Queue) -> sqlx::Result<()>;

    /// Does what [`QueueDialect::finish_rows`] does, and lets the next row of each of these keys be claimed. All of it or
    /// nothing.
    async fn finish_in_order(
        connection: &mut Self::Connection,
        queue: &Queue,
        claims: &[Claim],
        keys: &[i64],
    ) -> sqlx::Result<Vec<i64>>;

    /// Lets these rows of ours hold their keys.
    async fn pass_holds(
        connection: &mut Self::Connection,
        queue: &Queue,
        offsets: &[i64],
    ) -> sqlx::Result<()>;

    /// Lets the heads of keys be claimed that are aside, because somebody has deleted rows by hand: of [`LOOKED_AT`] keys,
    /// from any one on.
    async fn mend_keys(connection: &mut Self::Connection, queue: &Queue) -> sqlx::Result<bool>;
}

/// How much a claim takes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most rows.
    pub(crate) limit: usize,
    /// The most bytes of messages, and one row however large it is.
    pub(crate) bytes: usize,
    /// The most rows of one key.
    pub(crate) run: usize,
    /// How many rows that are due are looked at.
    pub(crate) looks: usize,
}

/// What a claim has found.
#[derive(Debug)]
pub struct Look {
    /// Ours now.
    pub(crate) rows: Vec<Claimed>,
    /// How many were looked at.
    pub(crate) looked_at: usize,
}

impl Look {
    /// Another was quicker by a moment, and what was looked at has to be looked at again.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) const COLLIDED: Self = Self { rows: Vec::new(), looked_at: usize::MAX };
}
