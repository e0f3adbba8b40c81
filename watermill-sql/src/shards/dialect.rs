//! [`ShardsDialect`]: everything about shards that differs between databases.

use std::time::Duration;

use async_trait::async_trait;

use crate::{connection::ConnectionDialect, topic::Tables};

/// The statements of one database for the plans of shards.
#[async_trait]
pub trait ShardsDialect: ConnectionDialect {
    /// Creates the table of plans unless it exists.
    async fn create_shards(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// The plan of a group, as it was written.
    async fn plan(
        connection: &mut Self::Connection,
        topic: &str,
        group: &str,
    ) -> sqlx::Result<Option<String>>;

    /// Writes the plan of a group that has none.
    async fn insert_plan(
        connection: &mut Self::Connection,
        topic: &str,
        group: &str,
        plan: &str,
    ) -> sqlx::Result<()>;

    /// Writes another plan in the place of the one that was read; false when it is there no more.
    async fn replace_plan(connection: &mut Self::Connection, replaced: &Replaced<'_>) -> sqlx::Result<bool>;

    /// The highest offset of a row that can be seen.
    async fn highest_offset(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<i64>;

    /// Deletes the position of a group.
    async fn forget_position(
        connection: &mut Self::Connection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<()>;

    /// Deletes the row of a group's lease, whoever has it.
    async fn forget_lease(connection: &mut Self::Connection, topic: &str, group: &str) -> sqlx::Result<()>;

    /// Begins a generation, in one transaction: writes the plan as [`replace_plan`](Self::replace_plan), gives its groups
    /// their position, and forgets those of the last one. Of a group that was read before there were shards the lease
    /// stays, by which others know.
    async fn turn(connection: &mut Self::Connection, tables: &Tables, turn: &Turn<'_>) -> sqlx::Result<bool>;
}

/// A plan that takes the place of another.
#[derive(Debug)]
pub struct Replaced<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// The begin of a generation.
#[derive(Debug)]
pub struct Turn<'a> {
    pub(crate) replaced: Replaced<'a>,
    pub(crate) over: Vec<String>,
    pub(crate) next: Vec<String>,
    pub(crate) position: i64,
    /// How long the transaction may be silent before the server ends it.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "SQLite has no server")
    )]
    pub(crate) silence: Duration,
}
