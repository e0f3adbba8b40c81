//! Watching for commits.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::NOW_MS;
use crate::{
    topic::Tables,
    watch::{Source, WatchDialect},
};

#[async_trait]
impl WatchDialect for Sqlite {
    async fn source(_connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<Option<Source>> {
        Ok(Some(Source { messages: tables.messages(), numbers: tables.messages() }))
    }

    /// Reads a page that is in memory.
    async fn version(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("pragma data_version").fetch_one(connection).await.map(Some)
    }

    async fn marks(connection: &mut SqliteConnection, sources: &[Source]) -> sqlx::Result<Vec<i64>> {
        let each = |source: &Source| format!(r#"select coalesce(max("offset"), 0) from {}"#, source.messages);
        answers(connection, sources, each).await
    }

    async fn due(connection: &mut SqliteConnection, queues: &[Source]) -> sqlx::Result<Vec<bool>> {
        let each = |queue: &Source| {
            let messages = &queue.messages;
            format!("select exists (select 1 from {messages} where not acked and due_ms <= {NOW_MS})")
        };
        Ok(answers(connection, queues, each).await?.into_iter().map(|is_due| is_due != 0).collect())
    }
}

/// One statement.
async fn answers(
    connection: &mut SqliteConnection,
    sources: &[Source],
    each: impl Fn(&Source) -> String,
) -> sqlx::Result<Vec<i64>> {
    let each = sources.iter().map(|source| format!("({})", each(source)));
    let question = format!("select {}", each.collect::<Vec<_>>().join(", "));
    let row = sqlx::query(AssertSqlSafe(question)).fetch_one(connection).await?;
    (0..sources.len()).map(|column| row.try_get(column)).collect()
}
