//! Terms and checkpoints.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection};

use crate::{
    fenced::{FencedDialect, Held},
    topic::CHECKPOINTS,
};

#[async_trait]
impl FencedDialect for MySql {
    async fn take_term(
        connection: &mut MySqlConnection,
        name: &str,
        owner: &str,
    ) -> sqlx::Result<Option<Vec<u8>>> {
        let mut transaction = connection.begin().await?;
        sqlx::query(AssertSqlSafe(format!(
            "insert into {CHECKPOINTS} (name, owner) values (?, ?)
             on duplicate key update owner = values(owner)"
        )))
        .bind(name)
        .bind(owner)
        .execute(&mut *transaction)
        .await?;
        // It is locked by now; a plain select would show what there was when the transaction began.
        let checkpoint = sqlx::query_scalar(AssertSqlSafe(format!(
            "select checkpoint from {CHECKPOINTS} where name = ? for update"
        )))
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(checkpoint)
    }

    async fn store_checkpoint(
        connection: &mut MySqlConnection,
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
