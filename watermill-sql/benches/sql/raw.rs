//! [`Raw`]: sqlx doing by hand what the library does.

use async_trait::async_trait;
use sqlx::Pool;
use watermill_core::Message;
use watermill_sql::SqlDatabase;

/// A row as the raw client writes and reads it: id, payload, metadata.
pub(crate) type Row = (String, String, String);

/// A database of its own on a real server.
#[async_trait]
pub(crate) trait Raw: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    const NAME: &str;

    async fn pool(&self, connections: u32) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statement: &str);

    /// One insert for all rows, with the columns of a log.
    async fn insert(pool: &Pool<Self::Database>, topic: &str, rows: &[Row]);

    /// Fills a topic with copies of one row, `doublings` times twice as many, and has the server look at
    /// the table.
    async fn fill(pool: &Pool<Self::Database>, topic: &str, doublings: u32);

    /// The loop of somebody who needs no groups, no order of commits and no leases: by the key, and the
    /// position advanced after each batch. Everything is copied out.
    async fn read(pool: &Pool<Self::Database>, topic: &str, batch: usize, messages: usize);

    /// Claims rows of a queue with the visibility timeout in the row, and deletes them, until there are
    /// none: the work of one connection.
    async fn claim_and_delete(pool: &Pool<Self::Database>, topic: &str, batch: usize);

    /// Empties a queue and fills it with so many rows.
    async fn refill_queue(pool: &Pool<Self::Database>, topic: &str, rows: usize);

    /// How many statements the server has executed.
    async fn statements(pool: &Pool<Self::Database>) -> u64;
}

/// The rows of messages.
pub(crate) fn rows(messages: &[Message]) -> Vec<Row> {
    messages
        .iter()
        .map(|message| {
            let payload = String::from_utf8(message.payload().to_vec()).expect("the workload is JSON");
            let metadata = serde_json::to_string(message.metadata()).expect("text is JSON");
            (message.id().to_string(), payload, metadata)
        })
        .collect()
}
