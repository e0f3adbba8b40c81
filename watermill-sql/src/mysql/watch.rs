//! Watching for committed offsets. `auto_increment` of the catalogue is cached and of no use.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::NOW_MS;
use crate::{
    topic::Tables,
    watch::{Source, WatchDialect},
};

#[async_trait]
impl WatchDialect for MySql {
    async fn source(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<Option<Source>> {
        let database: Option<String> = sqlx::query_scalar("select database()").fetch_one(connection).await?;
        let messages = match database {
            Some(database) => format!("`{}`.{}", database.replace('`', "``"), tables.messages()),
            None => tables.messages(),
        };
        Ok(Some(Source { numbers: messages.clone(), messages }))
    }

    /// The end of the primary key, which the optimizer looks up before it does anything else.
    async fn marks(connection: &mut MySqlConnection, sources: &[Source]) -> sqlx::Result<Vec<i64>> {
        let each = |source: &Source| format!("coalesce(max(`offset`), 0) from {}", source.messages);
        answers(connection, sources, each).await
    }

    async fn due(connection: &mut MySqlConnection, queues: &[Source]) -> sqlx::Result<Vec<bool>> {
        let each = |queue: &Source| {
            let messages = &queue.messages;
            format!("exists (select 1 from {messages} where acked = 0 and due_ms <= {NOW_MS})")
        };
        Ok(answers(connection, queues, each).await?.into_iter().map(|is_due| is_due != 0).collect())
    }
}

/// One statement, and as text: to prepare it takes as long as to answer.
async fn answers(
    connection: &mut MySqlConnection,
    sources: &[Source],
    each: impl Fn(&Source) -> String,
) -> sqlx::Result<Vec<i64>> {
    let each =
        sources.iter().enumerate().map(|(number, source)| format!("select {number}, {}", each(source)));
    let question = each.collect::<Vec<_>>().join(" union all ");
    let mut answers = vec![0; sources.len()];
    for row in sqlx::raw_sql(AssertSqlSafe(question)).fetch_all(connection).await? {
        let number = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        if let Some(answer) = answers.get_mut(number) {
            *answer = row.try_get(1)?;
        }
    }
    Ok(answers)
}
