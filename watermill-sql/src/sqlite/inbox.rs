//! Steps and their marks.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, error::DatabaseError};

use super::NOW_MS;
use crate::{
    connection::ConnectionDialect,
    inbox::{Beginning, InboxDialect, Mark},
    log::millis,
    topic::INBOX,
};

#[async_trait]
impl InboxDialect for Sqlite {
    /// There is no way to the server that could be saved.
    const MARKS_IN_BEGIN: bool = false;
    /// A full disk ends the transaction, and what is inserted next is there for good.
    const OUTPUTS_TELL: bool = false;
    const COMMIT_TELLS: bool = true;

    fn is_over(error: &dyn DatabaseError) -> bool {
        error.message().contains("no transaction is active")
    }

    /// As a writer: one that has read before cannot become one any more when somebody else has written.
    fn begin_step(_beginning: &Beginning<'_>) -> String {
        "begin immediate".to_owned()
    }

    async fn mark(connection: &mut SqliteConnection, mark: &Mark) -> sqlx::Result<bool> {
        let marked = sqlx::query(AssertSqlSafe(format!(
            "insert into {INBOX} (consumer, topic, message_id, handled_at_ms) values (?, ?, ?, {NOW_MS})
             on conflict do nothing"
        )))
        .bind(&mark.consumer)
        .bind(&mark.topic)
        .bind(&mark.id)
        .execute(connection)
        .await?;
        Ok(marked.rows_affected() > 0)
    }

    async fn goes_on(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
        Self::is_in_transaction(connection).await
    }

    /// BUSY_SNAPSHOT.
    fn is_conflict(error: &dyn DatabaseError) -> bool {
        error.code().as_deref() == Some("517")
    }

    async fn create_inbox(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {INBOX} (
                consumer text not null,
                topic text not null,
                message_id text not null,
                handled_at_ms integer not null,
                primary key (consumer, topic, message_id)
            ) without rowid;
            create index if not exists _watermill_inbox_age on {INBOX} (handled_at_ms)"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn expire_marks(
        connection: &mut SqliteConnection,
        older_than: Duration,
        limit: usize,
    ) -> sqlx::Result<u64> {
        let deleted = sqlx::query(AssertSqlSafe(format!(
            "delete from {INBOX} where (consumer, topic, message_id) in (
                 select consumer, topic, message_id from {INBOX} where handled_at_ms < {NOW_MS} - ?
                 order by handled_at_ms limit {limit}
             )"
        )))
        .bind(millis(older_than))
        .execute(connection)
        .await?;
        Ok(deleted.rows_affected())
    }
}
