//! PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Pool, Postgres, Row as _};
use watermill_core::Message;

use crate::raw::{self, Depth, Raw};

#[async_trait]
impl Raw for Postgres {
    fn insert_text(topic: &str, rows: usize) -> Arc<str> {
        let values: Vec<String> = (0..rows)
            .map(|row| {
                let first = row * 3 + 1;
                format!("(${}, ${}::json, ${}::json, pg_current_xact_id())", first, first + 1, first + 2)
            })
            .collect();
        format!(
            r#"insert into "watermill_{topic}" (uuid, payload, metadata, transaction_id) values {}"#,
            values.join(", ")
        )
        .into()
    }

    async fn write_rows(
        connection: &mut PgConnection,
        text: &Arc<str>,
        messages: &[Message],
    ) -> sqlx::Result<()> {
        let mut query = sqlx::query(AssertSqlSafe(text.clone()));
        for message in messages {
            query =
                query.bind(message.id().as_str()).bind(raw::payload(message)).bind(raw::metadata(message));
        }
        query.execute(connection).await.map(drop)
    }

    async fn begin_group(connection: &mut PgConnection, topic: &str, group: &str) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            r#"insert into "watermill_offsets_{topic}" values ($1, 0, '0'::xid8)"#
        )))
        .bind(group)
        .execute(connection)
        .await
        .map(drop)
    }

    fn read_text(topic: &str) -> Arc<str> {
        format!(
            r#"select "offset", uuid, payload::text, metadata::text from "watermill_{topic}"
               where "offset" > $1 order by "offset" limit $2"#
        )
        .into()
    }

    async fn read_rows(
        connection: &mut PgConnection,
        text: &Arc<str>,
        after: i64,
        limit: i64,
        depth: Depth,
    ) -> sqlx::Result<(i64, usize)> {
        let query = sqlx::query(AssertSqlSafe(text.clone())).bind(after).bind(limit);
        let rows = query.fetch_all(connection).await?;
        let mut last = after;
        for row in &rows {
            last = row.try_get(0)?;
            let metadata: &str = row.try_get(3)?;
            raw::use_message(row.try_get(1)?, row.try_get::<String, _>(2)?, metadata, depth);
        }
        Ok((last, rows.len()))
    }

    fn advance_text(topic: &str) -> Arc<str> {
        format!(r#"update "watermill_offsets_{topic}" set offset_acked = $1 where consumer_group = $2"#)
            .into()
    }

    async fn move_position(
        connection: &mut PgConnection,
        text: &Arc<str>,
        group: &str,
        position: i64,
    ) -> sqlx::Result<()> {
        let query = sqlx::query(AssertSqlSafe(text.clone())).bind(position).bind(group);
        query.execute(connection).await.map(drop)
    }

    async fn count_aside(pool: &Pool<Postgres>, topic: &str) -> sqlx::Result<usize> {
        let text = format!(r#"select count(*) from "watermill_{topic}" where {}"#, raw::IS_ASIDE);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    async fn settle_down(connection: &mut PgConnection, topic: &str) -> sqlx::Result<()> {
        let text = format!(r#"vacuum analyze "watermill_{topic}""#);
        sqlx::query(AssertSqlSafe(text)).execute(connection).await.map(drop)
    }
}
