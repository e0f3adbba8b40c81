//! Watching sequences. They know no transactions: `last_value` moves when an offset is drawn, before its transaction
//! commits, and nobody waits for who reads it.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::queue::STATEMENT_MS;
use crate::{
    log::LogDialect as _,
    topic::Tables,
    watch::{WatchDialect, Watched},
};

#[async_trait]
impl WatchDialect for Postgres {
    /// Nothing where the offset is drawn from no sequence of its own, or from one that may not be read.
    async fn watched(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<Option<Watched>> {
        let named: Option<(String, String)> = sqlx::query_as(
            "select format('%I.%I', n.nspname, c.relname), s.name
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             cross join lateral (select pg_get_serial_sequence($1, 'offset') as name) s
             where c.oid = to_regclass($1) and has_sequence_privilege(s.name, 'select, usage')",
        )
        .bind(tables.messages())
        .fetch_optional(connection)
        .await?;
        Ok(named.map(|(messages, numbers)| Watched { messages, numbers }))
    }

    /// The function of the view `pg_sequences`, which is asked about as many as one likes at once. A sequence that is
    /// gone has no name any more, and one that was never drawn from no value. As text, which needs nothing of a pooler.
    async fn marks(connection: &mut PgConnection, watched: &[Watched]) -> sqlx::Result<Vec<i64>> {
        let names = watched.iter().map(|watched| Postgres::literal(&watched.numbers));
        let question = format!(
            "select coalesce(pg_sequence_last_value(to_regclass(name)), 0)
             from unnest(array[{}]) with ordinality as sequence (name, number) order by number",
            names.collect::<Vec<_>>().join(", ")
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(question)).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Prepared once for the same queues, because to plan it takes longer than to answer.
    async fn due(connection: &mut PgConnection, queues: &[Watched]) -> sqlx::Result<Vec<bool>> {
        let each = queues.iter().map(|queue| {
            let messages = &queue.messages;
            format!("exists (select from {messages} where not acked and due_ms <= {STATEMENT_MS})")
        });
        let question = format!("select array[{}]::boolean[]", each.collect::<Vec<_>>().join(", "));
        sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(connection).await
    }
}
