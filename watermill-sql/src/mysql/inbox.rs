//! Steps and their marks. Marks are bytes: a text's comparison would depend on its collation, and on blanks at its end.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, error::DatabaseError, mysql::MySqlDatabaseError};

use super::{NOW_MS, connection::is_no_savepoint};
use crate::{
    connection::ConnectionDialect,
    inbox::{Beginning, InboxDialect, Isolation, Mark, hex},
    log::millis,
    topic::INBOX,
};

#[async_trait]
impl InboxDialect for MySql {
    const MARKS_IN_BEGIN: bool = true;
    /// A deadlock ends the transaction, and what is inserted next is there for good.
    const OUTPUTS_TELL: bool = false;
    const LOG_ACK_TELLS: bool = true;

    fn is_over(error: &dyn DatabaseError) -> bool {
        is_no_savepoint(error)
    }

    /// The isolation is of the next transaction alone.
    fn begin_step(beginning: &Beginning<'_>) -> String {
        let mut text = match beginning.isolation.sql() {
            Some(level) => format!("set transaction isolation level {level}; start transaction"),
            None => "start transaction".to_owned(),
        };
        if !beginning.marks.is_empty() {
            let rows: Vec<_> = beginning.marks.iter().map(row).collect();
            text += &format!("; insert into {INBOX} {COLUMNS} values {}", rows.join(", "));
        }
        text
    }

    /// Serializable transactions lock what they read; those of repeatable read fail on MariaDB (`innodb_snapshot_isolation`).
    fn joins_log(isolation: Isolation) -> bool {
        isolation != Isolation::RepeatableRead
    }

    async fn mark(connection: &mut MySqlConnection, mark: &Mark) -> sqlx::Result<bool> {
        let marked = sqlx::query(AssertSqlSafe(format!(
            "insert ignore into {INBOX} {COLUMNS} values (?, ?, ?, {NOW_MS})"
        )))
        .bind(mark.consumer.as_bytes())
        .bind(mark.topic.as_bytes())
        .bind(mark.id.as_bytes())
        .execute(connection)
        .await?;
        Ok(marked.rows_affected() > 0)
    }

    async fn goes_on(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
        Self::is_in_transaction(connection).await
    }

    /// Deadlocks, locks that were waited for in vain, and what somebody has changed since it was read.
    fn is_conflict(error: &dyn DatabaseError) -> bool {
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        matches!(number, Some(1020 | 1205 | 1213))
    }

    async fn create_inbox(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {INBOX} (
                consumer varbinary(255) not null,
                topic varbinary(255) not null,
                message_id varbinary(255) not null,
                handled_at_ms bigint not null,
                primary key (consumer, topic, message_id),
                index _watermill_inbox_age (handled_at_ms)
            ) engine = InnoDB"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn expire_marks(
        connection: &mut MySqlConnection,
        older_than: Duration,
        limit: usize,
    ) -> sqlx::Result<u64> {
        let deleted = sqlx::query(AssertSqlSafe(format!(
            "delete from {INBOX} where handled_at_ms < {NOW_MS} - ? order by handled_at_ms limit {limit}"
        )))
        .bind(millis(older_than))
        .execute(connection)
        .await?;
        Ok(deleted.rows_affected())
    }
}

const COLUMNS: &str = "(consumer, topic, message_id, handled_at_ms)";

/// A row with its values in it.
fn row(mark: &Mark) -> String {
    let bytes = |text: &str| format!("x'{}'", hex(text.as_bytes()));
    format!("({}, {}, {}, {NOW_MS})", bytes(&mark.consumer), bytes(&mark.topic), bytes(&mark.id))
}
