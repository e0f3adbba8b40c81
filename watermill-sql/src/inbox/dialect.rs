//! [`InboxDialect`]: what differs between databases about a step.

use std::time::Duration;

use async_trait::async_trait;

use super::{Isolation, Mark};
use crate::publisher::InsertDialect;

/// The statements of one database for steps and their marks.
#[async_trait]
pub trait InboxDialect: InsertDialect {
    /// Whether marks are written by the text that begins the transaction, in one message to the server.
    const MARKS_IN_BEGIN: bool;

    /// Whether an insert of ours fails in a transaction of which a statement has failed, so that outputs tell.
    const OUTPUTS_TELL: bool;

    /// Whether the ack of a log fails in a transaction that is over or of which a statement has failed, so that it tells.
    const LOG_ACK_TELLS: bool = false;

    /// The same of the commit, before which nothing is written then.
    const COMMIT_TELLS: bool = false;

    /// Whether an error says that the transaction is over.
    fn is_over(_error: &dyn sqlx::error::DatabaseError) -> bool {
        false
    }

    /// The text that begins a transaction. One with marks fails with a unique violation where one of them is there, and
    /// waits for whoever is about to write one of them.
    fn begin_step(beginning: &Beginning<'_>) -> String;

    /// Whether a transaction of this isolation can move a log's position, though its lease was renewed after the
    /// transaction has begun.
    fn joins_log(_isolation: Isolation) -> bool {
        true
    }

    /// Writes a mark; false when it was there.
    async fn mark(connection: &mut Self::Connection, mark: &Mark) -> sqlx::Result<bool>;

    /// Whether the transaction still is what it was: one of which no statement has failed, and that the server has not
    /// ended by itself.
    async fn goes_on(connection: &mut Self::Connection) -> sqlx::Result<bool>;

    /// Whether the same again may succeed: a deadlock, a serialization that failed.
    fn is_conflict(error: &dyn sqlx::error::DatabaseError) -> bool;

    /// Creates the table of marks unless it exists.
    async fn create_inbox(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// Deletes at most so many marks that are older, and says how many.
    async fn expire_marks(
        connection: &mut Self::Connection,
        older_than: Duration,
        limit: usize,
    ) -> sqlx::Result<u64>;
}

/// How a transaction begins.
#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    expect(dead_code, reason = "SQLite has one way")
)]
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'b> {
    pub(crate) isolation: Isolation,
    /// After so much silence of the client the server may roll back.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "only PostgreSQL takes it with the begin")
    )]
    pub(crate) silence: Duration,
    pub(crate) marks: &'b [Mark],
}

impl Isolation {
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "SQLite has one")
    )]
    /// In SQL; `None` for what the session has.
    pub(crate) fn sql(self) -> Option<&'static str> {
        match self {
            Self::Session => None,
            Self::ReadCommitted => Some("read committed"),
            Self::RepeatableRead => Some("repeatable read"),
            Self::Serializable => Some("serializable"),
        }
    }
}
