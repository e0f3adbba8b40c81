//! MySQL and MariaDB. A transaction may commit rows whose offsets are below those that others have
//! committed before, so a reader decides the gaps in what it sees: [`gaps`].

mod checks;
mod connection;
mod gaps;
mod holder;
mod insert;
mod lease;
mod log;
mod probe;
mod queue;
mod retention;
mod rows;
mod schema;
mod statements;

use async_trait::async_trait;
use sqlx::{MySql, MySqlConnection, error::DatabaseError, mysql::MySqlDatabaseError};

use crate::{
    PayloadColumn,
    dialect::Dialect,
    error::{Failure, Trouble},
    listener::ListenDialect,
};

/// Now, by the database's clock, in milliseconds since the Unix epoch, whatever the session's time zone.
const NOW_MS: &str = "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000)";

#[async_trait]
impl Dialect for MySql {
    const QUOTE: char = '`';
    const IDENTIFIER_BYTES_MAX: usize = 64;
    const DEFAULT_GROUP: &str = "";
    const ONE_WRITER: bool = false;
    /// Creating a table commits the transaction.
    const CREATES_IN_TRANSACTION: bool = false;
    const FAILURE_ENDS_TRANSACTION: bool = false;
    const AGAIN: &str = "";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Json;

    fn trouble(error: &dyn DatabaseError) -> Trouble {
        // https://mariadb.com/kb/en/mariadb-error-codes/, which agrees with MySQL on these.
        match error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number) {
            // Deadlock: all of the transaction has been rolled back.
            1213 => Trouble::Conflict,
            // No such table, unknown column, a column without a value.
            1146 | 1054 | 1364 => Trouble::Mismatch,
            // Larger than the packet or the column, not JSON (MySQL, MariaDB), not in the character set.
            1153 | 1301 | 1406 | 3140 | 4025 | 1366 => Trouble::Message,
            // Too many connections, shutting down, out of resources, killed, interrupted, read-only
            // after a switch of primaries, lock waits.
            1040
            | 1203
            | 1226
            | 1053
            | 1077
            | 1021
            | 1037
            | 1041
            | 1927
            | 1317
            | 1290
            | 1836
            | 1205
            | 3572
            | 1158..=1161 => Trouble::Unavailable,
            _ => Trouble::Refused,
        }
    }

    async fn check_server(connection: &mut MySqlConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }
}

/// It tells nobody.
impl ListenDialect for MySql {}
