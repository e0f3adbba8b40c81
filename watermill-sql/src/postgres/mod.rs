//! PostgreSQL. Transactions commit in another order than they draw their offsets, so what a reader may
//! see is decided by one of the two rules in [`commit_order`].

mod checks;
mod claim_in_order;
mod commit_order;
mod connection;
mod errors;
mod fenced;
mod holder;
mod inbox;
mod insert;
mod lease;
mod log;
pub(crate) mod look;
mod ordered;
mod pooler;
mod queue;
mod retention;
mod rows;
mod schedules;
mod schema;
mod shards;
mod source;
mod start;
mod status;
mod watch;
mod zone;

use async_trait::async_trait;
use sqlx::{PgConnection, Postgres, error::DatabaseError};

use crate::{
    PayloadColumn,
    dialect::Dialect,
    error::{Failure, Trouble},
};

/// Now, by the database's clock, in milliseconds since the Unix epoch.
const NOW_MS: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

#[async_trait]
impl Dialect for Postgres {
    const QUOTE: char = '"';
    const HAS_SCHEMAS: bool = true;
    /// `NAMEDATALEN` less its end; longer names are cut without an error.
    const IDENTIFIER_BYTES_MAX: usize = 63;
    const DEFAULT_GROUP: &str = "";
    const ONE_WRITER: bool = false;
    const CREATES_IN_TRANSACTION: bool = true;
    const FAILURE_ENDS_TRANSACTION: bool = true;
    const AGAIN: &str = "";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Json;

    fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
        errors::trouble(error)
    }

    fn explain(error: &dyn DatabaseError) -> Option<&'static str> {
        pooler::is_lost_statement(error).then_some(pooler::REMEDY)
    }

    async fn check_server(connection: &mut PgConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }
}
