//! [`Server`]: what the writers need to know of a database.

use async_trait::async_trait;
use sqlx::{Pool, Transaction};
use watermill_sql::SqlDatabase;

pub(crate) type Tx<S> = Transaction<'static, <S as Server>::Database>;
pub(crate) type Connection<S> = <<S as Server>::Database as sqlx::Database>::Connection;

/// Whose row it is, and its number among the rows of that writer, in the order of inserting.
pub(crate) type RowId = (u32, u32);

/// A database of its own for one test.
#[async_trait]
pub(crate) trait Server: Sized + Send + Sync + 'static {
    type Database: SqlDatabase;

    const QUOTE: char;
    /// Whether one transaction may write while another does.
    const MANY_WRITERS: bool;
    /// Whether it has `PREPARE TRANSACTION` and `COMMIT PREPARED`.
    const TWO_PHASE: bool;

    /// For the writers: as many connections as they want.
    fn pool(&self) -> &Pool<Self::Database>;

    /// For the readers, and for what must not fail: none of its connections is killed.
    fn reading_pool(&self) -> &Pool<Self::Database>;

    async fn begin(&self) -> sqlx::Result<Tx<Self>>;

    async fn execute(connection: &mut Connection<Self>, statement: String) -> sqlx::Result<()>;

    /// The statement by which another connection kills this one, where there is such a thing.
    async fn killer(victim: &mut Connection<Self>) -> sqlx::Result<Option<String>>;

    /// The rows of the topic above an offset, in the order of offsets, seen at once.
    async fn rows_after(&self, offset: i64) -> sqlx::Result<Vec<(i64, RowId)>>;

    /// Makes what the writers need beside the topic; the topic's table is there.
    async fn prepare(&self) -> sqlx::Result<()> {
        let mut connection = self.pool().acquire().await?;
        Self::execute(&mut connection, "create table elsewhere (n integer)".to_owned()).await
    }

    /// What else goes on while the writers write; aborted when they have ended.
    async fn disturb(&self) {}

    /// Writes to another table than the topic's.
    async fn write_elsewhere(connection: &mut Connection<Self>) -> sqlx::Result<()> {
        Self::execute(connection, "insert into elsewhere (n) values (1)".to_owned()).await
    }

    /// A write transaction that has nothing to do with the topic.
    async fn begin_elsewhere(&self) -> Option<Tx<Self>> {
        if !Self::MANY_WRITERS {
            return None;
        }
        let mut transaction = self.begin().await.unwrap();
        Self::write_elsewhere(&mut transaction).await.unwrap();
        Some(transaction)
    }
}

/// What a payload says.
pub(crate) fn row_id(payload: &[u8]) -> RowId {
    serde_json::from_slice(payload).expect("a writer and a number")
}
