//! Watching for commits.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::NOW_MS;
use crate::{
    topic::Tables,
    watch::{WatchDialect, Watched},
};

#[async_trait]
impl WatchDialect for Sqlite {
    async fn watched(_connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<Option<Watched>> {
        Ok(Some(Watched { messages: tables.messages(), numbers: tables.messages() }))
    }

    /// Reads a page that is in memory.
    async fn version(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("pragma data_version").fetch_one(connection).await.map(Some)
    }

    async fn marks(connection: &mut SqliteConnection, watched: &[Watched]) -> sqlx::Result<Vec<i64>> {
        let each =
            |watched: &Watched| format!(r#"select coalesce(max("offset"), 0) from {}"#, watched.messages);
        answers(connection, watched, each).await
    }

    async fn due(connection: &mut SqliteConnection, queues: &[Watched]) -> sqlx::Result<Vec<bool>> {
        let each = |queue: &Watched| {
            let messages = &queue.messages;
            format!("select exists (select 1 from {messages} where not acked and due_ms <= {NOW_MS})")
        };
        Ok(answers(connection, queues, each).await?.into_iter().map(|is_due| is_due != 0).collect())
    }
}

/// One statement.
async fn answers(
    connection: &mut SqliteConnection,
    watched: &[Watched],
    each: impl Fn(&Watched) -> String,
) -> sqlx::Result<Vec<i64>> {
    let each = watched.iter().map(|watched| format!("({})", each(watched)));
    let question = format!("select {}", each.collect::<Vec<_>>().join(", "));
    let row = sqlx::query(AssertSqlSafe(question)).fetch_one(connection).await?;
    (0..watched.len()).map(|column| row.try_get(column)).collect()
}
