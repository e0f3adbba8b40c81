//! PostgreSQL. Transactions commit in another order than they draw their offsets, so what a reader may
//! see is decided by one of the two rules in [`commit_order`].

mod checks;
mod commit_order;
mod connection;
mod holder;
mod insert;
mod lease;
mod listen;
mod log;
mod look;
mod queue;
mod retention;
mod rows;
mod schema;

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
    /// `NAMEDATALEN` less its end; longer names are cut without an error.
    const IDENTIFIER_BYTES_MAX: usize = 63;
    const DEFAULT_GROUP: &str = "";
    const ONE_WRITER: bool = false;
    const CREATES_IN_TRANSACTION: bool = true;
    const FAILURE_ENDS_TRANSACTION: bool = true;
    const AGAIN: &str = "";
    const PAYLOAD_COLUMN: PayloadColumn = PayloadColumn::Json;

    fn trouble(error: &dyn DatabaseError) -> Trouble {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let code = error.code().unwrap_or_default();
        match &*code {
            // serialization_failure, deadlock_detected, in_failed_sql_transaction.
            "40001" | "40P01" | "25P02" => Trouble::Conflict,
            // undefined_table, undefined_column, datatype_mismatch, undefined_function.
            "42P01" | "42703" | "42804" | "42883" => Trouble::Mismatch,
            // invalid_text_representation, string_data_right_truncation, character_not_in_repertoire,
            // program_limit_exceeded.
            "22P02" | "22001" | "22021" | "54000" => Trouble::Message,
            // lock_not_available, query_canceled, read_only_sql_transaction: the last is what a client
            // hears that is still connected to what was the primary.
            "55P03" | "57014" | "25006" => Trouble::Unavailable,
            // Connections, resources, operators' interventions, the system.
            code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
                Trouble::Unavailable
            }
            _ => Trouble::Refused,
        }
    }

    async fn check_server(connection: &mut PgConnection) -> Result<(), Failure> {
        checks::check_server(connection).await
    }
}
