//! [`ConnectionDialect`]: what differs between databases about sessions and transactions.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Pool, Transaction};

use crate::{dialect::Dialect, error::Failure};

/// The sessions of one database.
#[async_trait]
pub trait ConnectionDialect: Dialect {
    /// Whether a connection is in doubt whose statement was not waited for to its end. As of sqlx 0.9 the server
    /// may have a transaction open then that sqlx does not know of, for it counts a transaction after the answer
    /// to its `BEGIN`; and what is written over it next is never committed.
    const FORGETS_BEGIN: bool;

    /// Why statements over the connections of a pool may become others, if they may.
    async fn check_pool(_pool: &Pool<Self>) -> Result<Result<(), String>, Failure> {
        Ok(Ok(()))
    }

    /// Whether others can see that a connection has ended.
    const SEES_CONNECTIONS: bool = false;

    /// What the server calls this connection, and no other one ever.
    async fn name_of(_connection: &mut Self::Connection) -> sqlx::Result<String> {
        Ok(String::new())
    }

    /// Begins a transaction that the server rolls back when its client has said nothing for so long, and with it
    /// lets go of its locks: a process that is stopped keeps its connections. The default is a plain `BEGIN`.
    fn begin(_silence: Duration) -> Option<String> {
        None
    }

    /// Undoes what [`begin`](Self::begin) has set for the whole session, after the transaction.
    async fn end(_connection: &mut Self::Connection) -> sqlx::Result<()> {
        Ok(())
    }

    /// Whether the server has a transaction open, whatever sqlx believes.
    async fn is_in_transaction(_connection: &mut Self::Connection) -> sqlx::Result<bool>;

    /// Executes what has no values and no answer, such as making and releasing a savepoint.
    async fn run_text(connection: &mut Self::Connection, statement: &'static str) -> sqlx::Result<()>;

    /// Whether another connection with these options sees the same tables.
    fn is_shared(_options: &<Self::Connection as sqlx::Connection>::Options) -> bool {
        true
    }
}

/// Begins a transaction of ours, over a connection that is closed if that does not come to its end. Inside another one
/// of ours it is a savepoint, and the silence is that one's.
pub(crate) async fn begin<D: ConnectionDialect>(
    connection: &mut D::Connection,
    silence: Duration,
) -> sqlx::Result<Transaction<'_, D>> {
    match D::begin(silence).filter(|_| !connection.is_in_transaction()) {
        Some(statement) => connection.begin_with(AssertSqlSafe(statement)).await,
        None => connection.begin().await,
    }
}
