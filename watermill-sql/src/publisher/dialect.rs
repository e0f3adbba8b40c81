//! [`InsertDialect`]: everything about inserts that differs between databases.

use async_trait::async_trait;

use crate::{
    SqlPublisherConfig,
    marshaler::Record,
    schema::{Found, SchemaDialect},
    topic::Tables,
};

/// The inserts of one database, into both layouts. Each works on a connection that may be inside a transaction.
#[async_trait]
pub trait InsertDialect: SchemaDialect {
    /// The most rows of one insert, below the limit of bound values.
    const INSERT_ROWS_MAX: usize;
    /// The most bytes of one insert, unless a single row has more.
    const INSERT_BYTES_MAX: usize = usize::MAX;
    /// What limits the size of a statement, if anything does.
    const PACKET_LIMIT: Option<&str> = None;
    /// The latest due time that its column holds, in milliseconds since the Unix epoch.
    const DUE_MS_MAX: i64;

    /// The largest statement that the server takes over this connection, in bytes.
    async fn packet_max(_connection: &mut Self::Connection) -> sqlx::Result<usize> {
        Ok(usize::MAX)
    }

    /// Inserts at most [`INSERT_ROWS_MAX`](Self::INSERT_ROWS_MAX) rows with one statement, which wakes
    /// readers in other processes where the database can do that. Who `asks` hears whether a transaction may have been
    /// open before the statement, as far as that comes with its answer.
    async fn insert(
        connection: &mut Self::Connection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        asks: bool,
    ) -> sqlx::Result<bool>;

    /// Inserts rows as [`insert`](Self::insert) does, into a queue. `found` says
    /// which columns for due times are to be written.
    async fn enqueue(
        connection: &mut Self::Connection,
        tables: &Tables,
        records: &[Record],
        config: &SqlPublisherConfig,
        found: Found,
        asks: bool,
    ) -> sqlx::Result<bool>;
}
