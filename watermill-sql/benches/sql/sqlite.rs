//! SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Row as _, Sqlite, SqliteConnection};
use watermill_core::Message;

use crate::raw::{self, Depth, Raw};

#[async_trait]
impl Raw for Sqlite {
    fn insert_text(topic: &str, rows: usize) -> Arc<str> {
        let values = vec!["(?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?, ?)"; rows].join(", ");
        format!(r#"insert into "watermill_{topic}" (uuid, created_at, payload, metadata) values {values}"#)
            .into()
    }

    async fn write_rows(
        connection: &mut SqliteConnection,
        text: &Arc<str>,
        messages: &[Message],
    ) -> sqlx::Result<()> {
        let mut query = sqlx::query(AssertSqlSafe(text.clone()));
        for message in messages {
            query = query
                .bind(message.id().as_str().to_owned())
                .bind(message.payload().to_vec())
                .bind(raw::metadata(message));
        }
        query.execute(connection).await.map(drop)
    }

    async fn begin_group(connection: &mut SqliteConnection, topic: &str, group: &str) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            r#"insert into "watermill_offsets_{topic}" (consumer_group, offset_acked, locked_until)
               values (?, 0, 0)"#
        )))
        .bind(group.to_owned())
        .execute(connection)
        .await
        .map(drop)
    }

    fn read_text(topic: &str) -> Arc<str> {
        format!(
            r#"select "offset", uuid, payload, metadata from "watermill_{topic}"
               where "offset" > ? order by "offset" limit ?"#
        )
        .into()
    }

    async fn read_rows(
        connection: &mut SqliteConnection,
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
            let metadata: &str = row.try_get_unchecked(3)?;
            raw::use_message(row.try_get(1)?, row.try_get_unchecked::<Vec<u8>, _>(2)?, metadata, depth);
        }
        Ok((last, rows.len()))
    }

    fn advance_text(topic: &str) -> Arc<str> {
        format!(r#"update "watermill_offsets_{topic}" set offset_acked = ? where consumer_group = ?"#).into()
    }

    async fn move_position(
        connection: &mut SqliteConnection,
        text: &Arc<str>,
        group: &str,
        position: i64,
    ) -> sqlx::Result<()> {
        let query = sqlx::query(AssertSqlSafe(text.clone())).bind(position).bind(group.to_owned());
        query.execute(connection).await.map(drop)
    }

    async fn count_aside(pool: &Pool<Sqlite>, topic: &str) -> sqlx::Result<usize> {
        let text = format!(r#"select count(*) from "watermill_{topic}" where {}"#, raw::IS_ASIDE);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    async fn settle_down(connection: &mut SqliteConnection, _topic: &str) -> sqlx::Result<()> {
        sqlx::query("analyze").execute(connection).await.map(drop)
    }
}
