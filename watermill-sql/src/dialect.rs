//! [`Dialect`]: what a database is. What is done with it has a trait for each concern beside that concern,
//! and each database implements it in a file of its own: [`ConnectionDialect`](crate::connection::ConnectionDialect), [`SchemaDialect`](crate::schema::SchemaDialect),
//! [`InsertDialect`](crate::publisher::InsertDialect), [`LogDialect`](crate::log::LogDialect),
//! [`LeaseDialect`](crate::log::LeaseDialect), [`WatchDialect`](crate::watch::WatchDialect),
//! [`QueueDialect`](crate::queue::QueueDialect) and [`RetentionDialect`](crate::retention::RetentionDialect).
//! The rest of the crate knows no SQL.

use async_trait::async_trait;
use watermill_core::backend::{Failure, Trouble};

use crate::PayloadColumn;

/// What a database is, whatever is done with it.
#[async_trait]
pub trait Dialect: sqlx::Database {
    /// Quotes an identifier.
    const QUOTE: char;
    /// Whether a database has schemas that a topic can name.
    const HAS_SCHEMAS: bool = false;
    /// The longest name of a table, in bytes.
    const IDENTIFIER_BYTES_MAX: usize;
    /// The group that Go's library reads for when none is named.
    const DEFAULT_GROUP: &str;
    /// Whether the database has one writer at a time, so that writers of one publisher had better
    /// queue in the order they came.
    const ONE_WRITER: bool;
    /// Whether a table can be created inside a transaction without ending it, even after a statement
    /// that has failed for want of it.
    const CREATES_IN_TRANSACTION: bool;
    /// Whether a statement that fails ends the caller's transaction, so that what can be known before
    /// must be looked up before.
    const FAILURE_ENDS_TRANSACTION: bool;
    /// What else a caller can do whose transaction cannot go on: a fragment, or nothing.
    const AGAIN: &str;
    /// The payload column of the tables that Go's library makes.
    const PAYLOAD_COLUMN: PayloadColumn;

    /// What a native error means, by the classes that the database documents; `None` for one that is in none.
    fn trouble(error: &dyn sqlx::error::DatabaseError) -> Option<Trouble>;

    /// What is to be done about a native error that does not say it itself, by somebody else than the sender.
    fn explain(_error: &dyn sqlx::error::DatabaseError) -> Option<&'static str> {
        None
    }

    /// Refuses a server that cannot be written to, with the remedy: before anything is, so that it is not
    /// taken for one that is away.
    async fn check_server(_connection: &mut Self::Connection) -> Result<(), Failure> {
        Ok(())
    }
}
