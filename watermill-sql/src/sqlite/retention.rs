//! Retention. A look takes no lock; there is mostly nothing to delete.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::NOW_MS;
use crate::{
    position::Position,
    queue::json,
    retention::{Expired, Expiry, RetentionDialect},
};

/// A time that cannot be read is no reason to delete a row.
fn old() -> String {
    format!("coalesce(unixepoch(created_at, 'subsec') * 1000 < {NOW_MS} - ?1, false)")
}

#[async_trait]
impl RetentionDialect for Sqlite {
    async fn expire_read(
        connection: &mut SqliteConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let looked_at: Vec<(i64, bool)> = sqlx::query_as(AssertSqlSafe(format!(
            r#"select "offset", {} from {} where "offset" > ?2 order by "offset" limit {}"#,
            old(),
            expiry.tables.messages(),
            expiry.limit
        )))
        .bind(expiry.keep_ms)
        .bind(after.offset)
        .fetch_all(&mut *connection)
        .await?;
        let last_group: Option<(String, i64)> = match expiry.has_offsets {
            true => {
                sqlx::query_as(AssertSqlSafe(format!(
                    "select consumer_group, offset_acked from {} order by 2, 1 limit 1",
                    expiry.tables.offsets()
                )))
                .fetch_optional(&mut *connection)
                .await?
            }
            false => None,
        };
        let (offsets, expired) = expiry.choose(&looked_at, last_group);
        let deleted = delete(connection, expiry, &offsets).await?;
        Ok(Expired { deleted, ..expired })
    }

    async fn expire_acked(
        connection: &mut SqliteConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let offsets: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            r#"select "offset" from {} where acked and {} and "offset" > ?2 order by "offset" limit {}"#,
            expiry.tables.messages(),
            old(),
            expiry.limit
        )))
        .bind(expiry.keep_ms)
        .bind(after.offset)
        .fetch_all(&mut *connection)
        .await?;
        let deleted = delete(connection, expiry, &offsets).await?;
        Ok(Expired {
            looked_at: offsets.len(),
            last: offsets.last().map_or(after, |offset| Position::from(*offset)),
            deleted,
            kept_for: None,
        })
    }
}

async fn delete(connection: &mut SqliteConnection, expiry: &Expiry, offsets: &[i64]) -> sqlx::Result<u64> {
    if offsets.is_empty() {
        return Ok(0);
    }
    let deleted = sqlx::query(AssertSqlSafe(format!(
        r#"delete from {} where "offset" in (select value from json_each(?))"#,
        expiry.tables.messages()
    )))
    .bind(json(&offsets))
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}
