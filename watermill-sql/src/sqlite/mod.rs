//! SQLite: one writer at a time, so rows commit in the order of their offsets and a reader that asks
//! for `offset > last` skips nothing. Acks compare and set in one statement, which is one
//! transaction.

mod connection;
mod errors;
mod fenced;
mod inbox;
mod insert;
mod lease;
mod log;
mod moment;
mod ordered;
mod packed;
mod queue;
mod retention;
mod rows;
mod schedules;
mod schema;
mod shards;
mod source;
mod status;
mod watch;

use sqlx::{Sqlite, error::DatabaseError};

use crate::{PayloadColumn, dialect::Dialect, error::Trouble};

/// Now, by the database's clock, in milliseconds since the Unix epoch.
const NOW_MS: &str = "cast(unixepoch('now', 'subsec') * 1000 as integer)";

impl Dialect for Sqlite {
    const QUOTE: char = '"';
    /// SQLite itself has no limit; a file name is as long at most, and nobody reads longer ones.
    const IDENTIFIER_BYTES_MAX: usize = 255;
    const DEFAULT_GROUP: &str = "default";
    const ONE_WRITER: bool = true;
    const CREATES_IN_TRANSACTION: bool = true;
    const FAILURE_ENDS_TRANSACTION: bool = false;
    const AGAIN: &str = ", or begin it as a writer (BEGIN IMMEDIATE)";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Bytes;

    fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
        errors::trouble(error)
    }
}
