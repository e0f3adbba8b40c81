//! [`WatchDialect`]: the questions of a watch that differ between databases.

use async_trait::async_trait;

use crate::{connection::ConnectionDialect, topic::Tables};

/// The questions of one database, each about many topics at once. None of them takes a lock that a writer waits for.
#[async_trait]
pub trait WatchDialect: ConnectionDialect {
    /// What is looked at to learn that something was published to a topic, whatever the session's search path or
    /// database; `None` where there is nothing to look at. The table exists.
    async fn watched(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<Option<Watched>>;

    /// A number that changes when anything was committed by another connection; `None` where nothing says that.
    async fn version(_connection: &mut Self::Connection) -> sqlx::Result<Option<i64>> {
        Ok(None)
    }

    /// A number for each, that changes when something is published: on PostgreSQL when its offset is drawn, and
    /// elsewhere when it is committed above all that was.
    async fn marks(connection: &mut Self::Connection, watched: &[Watched]) -> sqlx::Result<Vec<i64>>;

    /// Whether a message is due in each of these queues.
    async fn due(connection: &mut Self::Connection, queues: &[Watched]) -> sqlx::Result<Vec<bool>>;
}

/// Where a topic is, as any connection to the server names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watched {
    /// The messages table, quoted.
    pub(crate) messages: String,
    /// What numbers its rows, quoted: the same, or a sequence.
    pub(crate) numbers: String,
}
