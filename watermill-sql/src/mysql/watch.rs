//! Watching for committed offsets. `auto_increment` of the catalogue is cached and of no use.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::NOW_MS;
use crate::{
    topic::Tables,
    watch::{WatchDialect, Watched},
};

#[async_trait]
impl WatchDialect for MySql {
    async fn watched(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<Option<Watched>> {
        let database: Option<String> = sqlx::query_scalar("select database()").fetch_one(connection).await?;
        let messages = match database {
            Some(database) => format!("`{}`.{}", database.replace('`', "``"), tables.messages()),
            None => tables.messages(),
        };
        Ok(Some(Watched { numbers: messages.clone(), messages }))
    }

    /// The end of the primary key, which the optimizer looks up before it does anything else.
    async fn marks(connection: &mut MySqlConnection, watched: &[Watched]) -> sqlx::Result<Vec<i64>> {
        let each = |watched: &Watched| format!("coalesce(max(`offset`), 0) from {}", watched.messages);
        answers(connection, watched, each).await
    }

    async fn due(connection: &mut MySqlConnection, queues: &[Watched]) -> sqlx::Result<Vec<bool>> {
        let each = |queue: &Watched| {
            let messages = &queue.messages;
            format!("exists (select 1 from {messages} where acked = 0 and due_ms <= {NOW_MS})")
        };
        Ok(answers(connection, queues, each).await?.into_iter().map(|is_due| is_due != 0).collect())
    }
}

/// One statement, and as text: to prepare it takes as long as to answer.
async fn answers(
    connection: &mut MySqlConnection,
    watched: &[Watched],
    each: impl Fn(&Watched) -> String,
) -> sqlx::Result<Vec<i64>> {
    let each =
        watched.iter().enumerate().map(|(number, watched)| format!("select {number}, {}", each(watched)));
    let question = each.collect::<Vec<_>>().join(" union all ");
    let mut answers = vec![0; watched.len()];
    for row in sqlx::raw_sql(AssertSqlSafe(question)).fetch_all(connection).await? {
        let number = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        if let Some(answer) = answers.get_mut(number) {
            *answer = row.try_get(1)?;
        }
    }
    Ok(answers)
}
