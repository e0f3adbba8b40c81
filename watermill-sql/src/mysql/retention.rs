//! Retention. What is deleted is below every group's position, where no reader looks for missing rows.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection};

use super::{connection::READ_COMMITTED, queue::OFFSETS};
use crate::{
    connection::ConnectionDialect as _,
    position::Position,
    queue::json,
    retention::{Expired, Expiry, RetentionDialect},
};

const OLD: &str = "created_at < now(6) - interval ? microsecond";

#[async_trait]
impl RetentionDialect for MySql {
    async fn expire_read(
        connection: &mut MySqlConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let looked_at: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
            "select `offset`, cast({OLD} as signed) from {} where `offset` > ? order by `offset` limit {}",
            expiry.tables.messages(),
            expiry.limit
        )))
        .bind(micros(expiry))
        .bind(after.offset)
        .fetch_all(&mut *connection)
        .await?;
        let looked_at: Vec<(i64, bool)> =
            looked_at.into_iter().map(|(offset, old)| (offset, old != 0)).collect();
        let last_group: Option<(String, i64)> = match expiry.has_offsets {
            true => {
                sqlx::query_as(AssertSqlSafe(format!(
                    "select cast(consumer_group as char), coalesce(offset_acked, 0) from {} order by 2, 1 limit 1",
                    expiry.tables.offsets()
                )))
                .fetch_optional(&mut *connection)
                .await?
            }
            false => None,
        };
        let (offsets, expired) = expiry.choose(&looked_at, last_group);
        if offsets.is_empty() {
            return Ok(expired);
        }
        let mut transaction = connection.begin_with(AssertSqlSafe(begin(expiry))).await?;
        let free: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select m.`offset` from {OFFSETS} straight_join {} m on m.`offset` = held.o for update skip locked",
            expiry.tables.messages()
        )))
        .bind(json(&offsets))
        .fetch_all(&mut *transaction)
        .await?;
        let deleted = delete(&mut transaction, expiry, &free).await?;
        transaction.commit().await?;
        MySql::end(connection).await?;
        Ok(Expired { deleted, ..expired })
    }

    async fn expire_acked(
        connection: &mut MySqlConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let mut transaction = connection.begin_with(AssertSqlSafe(begin(expiry))).await?;
        let offsets: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select `offset` from {} where acked = 1 and {OLD} and `offset` > ?
             order by `offset` limit {} for update skip locked",
            expiry.tables.messages(),
            expiry.limit
        )))
        .bind(micros(expiry))
        .bind(after.offset)
        .fetch_all(&mut *transaction)
        .await?;
        let deleted = delete(&mut transaction, expiry, &offsets).await?;
        transaction.commit().await?;
        MySql::end(connection).await?;
        Ok(Expired {
            looked_at: offsets.len(),
            last: offsets.last().map_or(after, |offset| Position::from(*offset)),
            deleted,
            kept_for: None,
        })
    }
}

async fn delete(connection: &mut MySqlConnection, expiry: &Expiry, offsets: &[i64]) -> sqlx::Result<u64> {
    if offsets.is_empty() {
        return Ok(0);
    }
    let deleted = sqlx::query(AssertSqlSafe(format!(
        "delete m from {OFFSETS} straight_join {} m on m.`offset` = held.o",
        expiry.tables.messages()
    )))
    .bind(json(&offsets))
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

/// A locking read of READ COMMITTED leaves no locks behind on what it passes over.
fn begin(expiry: &Expiry) -> String {
    format!("{READ_COMMITTED}; {}", MySql::begin(expiry.silence).unwrap_or_default())
}

fn micros(expiry: &Expiry) -> i64 {
    expiry.keep_ms.saturating_mul(1_000)
}
