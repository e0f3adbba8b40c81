//! MySQL and MariaDB. A transaction may commit rows whose offsets are below those that others have
//! committed before, so a reader decides the gaps in what it sees: [`gaps`].

mod checks;
mod connection;
mod errors;
mod fenced;
pub(crate) mod gaps;
mod holder;
mod inbox;
mod insert;
mod lease;
mod log;
mod ordered;
mod probe;
mod queue;
mod retention;
mod rows;
mod schedules;
mod schema;
mod shards;
mod source;
mod statements;
mod status;
mod watch;

use async_trait::async_trait;
use sqlx::{MySql, MySqlConnection, error::DatabaseError};

use crate::{
    PayloadColumn,
    dialect::Dialect,
    error::{Failure, Trouble},
};

/// Now, by the database's clock, in milliseconds since the Unix epoch, whatever the session's time zone.
const NOW_MS: &str = "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000)";

/// MariaDB cuts what an aggregate makes at a length that is an option; MySQL does not, and takes this for a comment.
const UNCUT: &str = "/*M! set statement group_concat_max_len = 1048576 for */";

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

    fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
        errors::trouble(error)
    }

    async fn check_server(connection: &mut MySqlConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }
}
