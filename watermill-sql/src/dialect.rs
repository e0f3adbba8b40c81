//! [`Dialect`]: what a database is. What is done with it has a trait for each concern beside that concern,
//! and each database implements it in a file of its own: [`SchemaDialect`](crate::schema::SchemaDialect),
//! [`InsertDialect`](crate::publisher::InsertDialect), [`LogDialect`](crate::log::LogDialect),
//! [`LeaseDialect`](crate::log::LeaseDialect), [`ListenDialect`](crate::listener::ListenDialect),
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
    /// Whether sqlx, when the future of a `BEGIN` is dropped, gives the connection back with the transaction
    /// open, so that what the next one writes over it is never committed.
    const FORGETS_BEGIN: bool = false;
    /// What else a caller can do whose transaction cannot go on: a fragment, or nothing.
    const AGAIN: &str;
    /// The payload column of the tables that Go's library makes.
    const PAYLOAD_COLUMN: PayloadColumn;

    /// What a native error means, by the classes that the database documents; `None` for one that is in none.
    fn trouble(error: &dyn sqlx::error::DatabaseError) -> Option<Trouble>;

    /// Refuses a server that cannot be written to, with the remedy: before anything is, so that it is not
    /// taken for one that is away.
    async fn check_server(_connection: &mut Self::Connection) -> Result<(), Failure> {
        Ok(())
    }
}

/// Runs work that begins transactions so that dropping this future does not interrupt it where that would do
/// harm: there it has a task of its own.
pub(crate) async fn to_its_end<D: Dialect, T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    if !D::FORGETS_BEGIN {
        return work.await;
    }
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
