//! [`Database`]: what this program says to a database itself, in plain SQL.

mod mysql;
mod postgres;

use async_trait::async_trait;
use sqlx::Connection;
use watermill_sql::SqlDatabase;

pub(crate) type ConnectionOf<D> = <D as sqlx::Database>::Connection;

/// A business row that was committed together with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) key: i64,
    /// Its place among those of its key, in the order of commits: keys are locked while they are written.
    pub(crate) version: i64,
    /// Whether its message is larger than the broker takes.
    pub(crate) is_refused: bool,
}

/// PostgreSQL, or MySQL and MariaDB.
#[async_trait]
pub(crate) trait Database: SqlDatabase {
    /// Has a primary wait for its standby with every commit: asked of the primary.
    const BE_FOLLOWED: &'static [&'static str];
    /// Has it wait for none again.
    const BE_ALONE: &'static [&'static str];
    /// Counts the standbys that every commit waits for: asked of the primary.
    const FOLLOWERS: &'static str;
    /// Counts whether a standby has done all that it was sent, where that has to be waited for.
    const HAS_ALL: Option<&'static str>;
    /// Makes a standby a server that writes.
    const PROMOTE: &'static [&'static str];
    /// The type of a number that a table gives to its rows.
    const SERIAL: &'static str;
    /// The type of what a message holds.
    const TEXT: &'static str;
    /// What a relay written by hand sets before it claims rows, so that it does not lock out writers.
    const BEFORE_CLAIMING: &'static str;

    async fn execute(connection: &mut ConnectionOf<Self>, statement: String) -> sqlx::Result<u64>;

    async fn number(connection: &mut ConnectionOf<Self>, query: String) -> sqlx::Result<Option<i64>>;

    /// The rows of `id, key, version` with `refused` as a number.
    async fn rows(connection: &mut ConnectionOf<Self>, query: String) -> sqlx::Result<Vec<Row>>;

    /// Rows of a number and two texts.
    async fn records(
        connection: &mut ConnectionOf<Self>,
        query: String,
    ) -> sqlx::Result<Vec<(i64, String, String)>>;

    /// Takes a lock that one session has until it ends; false where another has it.
    async fn take_lock(connection: &mut ConnectionOf<Self>) -> sqlx::Result<bool>;

    /// Ends every session in the database but this one, and says how many there were.
    async fn end_sessions(connection: &mut ConnectionOf<Self>, database: &str) -> sqlx::Result<usize>;

    /// Waits until a standby has all that its primary has done so far, for a minute at most.
    async fn wait_for_standby(
        primary: &mut ConnectionOf<Self>,
        standby: &mut ConnectionOf<Self>,
    ) -> sqlx::Result<bool>;

    /// The payloads of a topic of ours, as text.
    async fn payloads(connection: &mut ConnectionOf<Self>, topic: &str) -> sqlx::Result<Vec<String>>;

    /// Opens a connection, which must not take long.
    async fn connect(url: &str) -> sqlx::Result<ConnectionOf<Self>> {
        match tokio::time::timeout(CONNECT_TIMEOUT, ConnectionOf::<Self>::connect(url)).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }
}

/// From one look at a standby to the next, and how many there are in a minute.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
const MINUTE: u32 = 3_000;
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
