//! Steps and their marks.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _, error::DatabaseError};

use super::{NOW_MS, schema};
use crate::{
    inbox::{Beginning, InboxDialect, Isolation, Mark, hex},
    log::millis,
    topic::INBOX,
};

#[async_trait]
impl InboxDialect for Postgres {
    const MARKS_IN_BEGIN: bool = true;
    const OUTPUTS_TELL: bool = true;

    /// What is set ends with the transaction.
    fn begin_step(beginning: &Beginning<'_>) -> String {
        let isolation = beginning.isolation.sql().map(|level| format!(" isolation level {level}"));
        let silence_ms = beginning.silence.as_millis().clamp(1, i32::MAX as u128);
        let mut text = format!(
            "begin{}; set local idle_in_transaction_session_timeout = {silence_ms}",
            isolation.unwrap_or_default()
        );
        if !beginning.marks.is_empty() {
            let rows: Vec<_> = beginning.marks.iter().map(row).collect();
            text += &format!("; insert into {INBOX} {COLUMNS} values {}", rows.join(", "));
        }
        text
    }

    fn joins_log(isolation: Isolation) -> bool {
        !matches!(isolation, Isolation::RepeatableRead | Isolation::Serializable)
    }

    async fn mark(connection: &mut PgConnection, mark: &Mark) -> sqlx::Result<bool> {
        let marked = sqlx::query(AssertSqlSafe(format!(
            "insert into {INBOX} {COLUMNS} values ($1, $2, $3, {NOW_MS}) on conflict do nothing"
        )))
        .bind(&mark.consumer)
        .bind(&mark.topic)
        .bind(&mark.id)
        .execute(connection)
        .await?;
        Ok(marked.rows_affected() > 0)
    }

    async fn goes_on(connection: &mut PgConnection) -> sqlx::Result<bool> {
        // Without a transaction, a statement that is sent by itself begins one at the very time of its own.
        let asked = sqlx::raw_sql("select now() <> statement_timestamp()").fetch_one(connection).await;
        match asked {
            Ok(row) => row.try_get(0),
            // in_failed_sql_transaction.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25P02") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The class of transactions that were rolled back: failed serializations, deadlocks.
    fn is_conflict(error: &dyn DatabaseError) -> bool {
        error.code().is_some_and(|code| code.starts_with("40"))
    }

    async fn create_inbox(connection: &mut PgConnection) -> sqlx::Result<()> {
        schema::create_all(
            connection,
            format!(
                "create table if not exists {INBOX} (
                    consumer text not null,
                    topic text not null,
                    message_id text not null,
                    handled_at_ms bigint not null,
                    primary key (consumer, topic, message_id)
                );
                create index if not exists _watermill_inbox_age on {INBOX} (handled_at_ms)"
            ),
        )
        .await
    }

    async fn expire_marks(
        connection: &mut PgConnection,
        older_than: Duration,
        limit: usize,
    ) -> sqlx::Result<u64> {
        let deleted = sqlx::query(AssertSqlSafe(format!(
            "delete from {INBOX} i using (
                 select consumer, topic, message_id from {INBOX} where handled_at_ms < {NOW_MS} - $1
                 order by handled_at_ms limit {limit} for update skip locked
             ) old
             where i.consumer = old.consumer and i.topic = old.topic and i.message_id = old.message_id"
        )))
        .bind(millis(older_than))
        .execute(connection)
        .await?;
        Ok(deleted.rows_affected())
    }
}

const COLUMNS: &str = "(consumer, topic, message_id, handled_at_ms)";

/// A row with its values in it, in which no text has a quote or a backslash.
fn row(mark: &Mark) -> String {
    let text = |text: &str| format!("convert_from(decode('{}', 'hex'), 'UTF8')", hex(text.as_bytes()));
    format!("({}, {}, {}, {NOW_MS})", text(&mark.consumer), text(&mark.topic), text(&mark.id))
}
