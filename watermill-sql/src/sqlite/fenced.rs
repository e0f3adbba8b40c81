//! Terms and checkpoints.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use crate::{
    fenced::{FencedDialect, Held},
    topic::CHECKPOINTS,
};

#[async_trait]
impl FencedDialect for Sqlite {
    async fn take_term(
        connection: &mut SqliteConnection,
        name: &str,
        owner: &str,
    ) -> sqlx::Result<Option<Vec<u8>>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "insert into {CHECKPOINTS} (name, owner) values (?, ?)
             on conflict (name) do update set owner = excluded.owner returning checkpoint"
        )))
        .bind(name)
        .bind(owner)
        .fetch_one(connection)
        .await
    }

    async fn store_checkpoint(
        connection: &mut SqliteConnection,
        held: &Held<'_>,
        checkpoint: &[u8],
    ) -> sqlx::Result<bool> {
        let stored = sqlx::query(AssertSqlSafe(format!(
            "update {CHECKPOINTS} set checkpoint = ? where name = ? and owner = ?"
        )))
        .bind(checkpoint)
        .bind(held.name)
        .bind(held.owner)
        .execute(connection)
        .await?;
        Ok(stored.rows_affected() > 0)
    }
}
