//! Terms and checkpoints.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::{
    fenced::{FencedDialect, Held},
    topic::CHECKPOINTS,
};

#[async_trait]
impl FencedDialect for Postgres {
    async fn take_term(
        connection: &mut PgConnection,
        name: &str,
        owner: &str,
    ) -> sqlx::Result<Option<Vec<u8>>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "insert into {CHECKPOINTS} (name, owner) values ($1, $2)
             on conflict (name) do update set owner = excluded.owner returning checkpoint"
        )))
        .bind(name)
        .bind(owner)
        .fetch_one(connection)
        .await
    }

    async fn store_checkpoint(
        connection: &mut PgConnection,
        held: &Held<'_>,
        checkpoint: &[u8],
    ) -> sqlx::Result<bool> {
        let stored = sqlx::query(AssertSqlSafe(format!(
            "update {CHECKPOINTS} set checkpoint = $1 where name = $2 and owner = $3"
        )))
        .bind(checkpoint)
        .bind(held.name)
        .bind(held.owner)
        .execute(connection)
        .await?;
        Ok(stored.rows_affected() > 0)
    }
}
