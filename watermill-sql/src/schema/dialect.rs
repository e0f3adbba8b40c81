//! [`SchemaDialect`]: everything about tables that differs between databases.

use async_trait::async_trait;

use crate::{PayloadColumn, connection::ConnectionDialect, topic::Tables};

/// The statements of one database for its tables. Each works on a connection that may be inside a transaction.
#[async_trait]
pub trait SchemaDialect: ConnectionDialect {
    /// The columns that the table of leases has got since the first release: their names and definitions.
    const LEASES_COLUMNS_ADDED: &[(&str, &str)];

    /// The columns of a table, by its name in the catalogue; none when there is no such table.
    async fn columns(connection: &mut Self::Connection, table: &str) -> sqlx::Result<Vec<String>>;

    /// Those of them that an insert may name: not the ones that the database makes by itself.
    async fn writable_columns(connection: &mut Self::Connection, table: &str) -> sqlx::Result<Vec<String>>;

    /// What the payload column of a topic's table holds, whoever made it.
    async fn payload_column(
        _connection: &mut Self::Connection,
        _tables: &Tables,
    ) -> sqlx::Result<PayloadColumn> {
        Ok(Self::PAYLOAD_COLUMN)
    }

    /// Creates the messages table unless it exists.
    async fn create_messages(
        connection: &mut Self::Connection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()>;

    /// Creates the messages table of a queue unless it exists.
    async fn create_queue(
        connection: &mut Self::Connection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()>;

    /// Gives a queue that Go made the columns that claims need, with an index. Go does not notice.
    async fn adopt_queue(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// What gives a queue the columns and indexes that claims in order by key need. Go does not notice.
    fn order_queue(tables: &Tables) -> Vec<String>;

    /// Runs these statements unless the messages table of a queue has the last of those columns. All of them or none where
    /// the database can do that.
    async fn add_order(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// Creates the offsets table unless it exists.
    async fn create_offsets(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// Changes a table.
    async fn alter(connection: &mut Self::Connection, statement: String) -> sqlx::Result<()>;

    /// Creates the table of leases unless it exists.
    async fn create_leases(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// Creates the table of checkpoints unless it exists.
    async fn create_checkpoints(connection: &mut Self::Connection) -> sqlx::Result<()>;
}
