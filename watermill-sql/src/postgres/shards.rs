//! The plans of shards.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::schema::create_all;
use crate::{
    connection::begin,
    shards::{Replaced, ShardsDialect, Turn},
    topic::{LEASES, SHARDS, Tables},
};

#[async_trait]
impl ShardsDialect for Postgres {
    async fn create_shards(connection: &mut PgConnection) -> sqlx::Result<()> {
        create_all(
            connection,
            format!(
                "create table if not exists {SHARDS} (
                topic text not null,
                consumer_group text not null,
                plan text not null,
                primary key (topic, consumer_group)
            )"
            ),
        )
        .await
    }

    async fn plan(connection: &mut PgConnection, topic: &str, group: &str) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select plan from {SHARDS} where topic = $1 and consumer_group = $2"
        )))
        .bind(topic)
        .bind(group)
        .fetch_optional(connection)
        .await
    }

    async fn insert_plan(
        connection: &mut PgConnection,
        topic: &str,
        group: &str,
        plan: &str,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "insert into {SHARDS} (topic, consumer_group, plan) values ($1, $2, $3) on conflict do nothing"
        )))
        .bind(topic)
        .bind(group)
        .bind(plan)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn replace_plan(connection: &mut PgConnection, replaced: &Replaced<'_>) -> sqlx::Result<bool> {
        let written = sqlx::query(AssertSqlSafe(format!(
            "update {SHARDS} set plan = $1 where topic = $2 and consumer_group = $3 and plan = $4"
        )))
        .bind(&replaced.to)
        .bind(replaced.topic)
        .bind(replaced.group)
        .bind(&replaced.from)
        .execute(connection)
        .await?;
        Ok(written.rows_affected() > 0)
    }

    async fn highest_offset(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<i64> {
        let highest =
            format!("select coalesce(max({}), 0)::bigint from {}", tables.offset(), tables.messages());
        sqlx::query_scalar(AssertSqlSafe(highest)).fetch_one(connection).await
    }

    async fn forget_position(
        connection: &mut PgConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<()> {
        let forget = format!("delete from {} where consumer_group = $1", tables.offsets());
        sqlx::query(AssertSqlSafe(forget)).bind(group).execute(connection).await.map(drop)
    }

    async fn forget_lease(connection: &mut PgConnection, topic: &str, group: &str) -> sqlx::Result<()> {
        let forget = format!("delete from {LEASES} where topic = $1 and consumer_group = $2");
        sqlx::query(AssertSqlSafe(forget)).bind(topic).bind(group).execute(connection).await.map(drop)
    }

    async fn turn(connection: &mut PgConnection, tables: &Tables, turn: &Turn<'_>) -> sqlx::Result<bool> {
        let mut transaction = begin::<Postgres>(connection, turn.silence).await?;
        if !Self::replace_plan(&mut transaction, &turn.replaced).await? {
            return Ok(false);
        }
        let offsets = tables.offsets();
        for group in &turn.over {
            if group != turn.replaced.group {
                Self::forget_lease(&mut transaction, turn.replaced.topic, group).await?;
            }
            Self::forget_position(&mut transaction, tables, group).await?;
        }
        for group in &turn.next {
            sqlx::query(AssertSqlSafe(format!(
                "insert into {offsets} (consumer_group, offset_acked, last_processed_transaction_id)
                 values ($1, $2, '0') on conflict do nothing"
            )))
            .bind(group)
            .bind(turn.position)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}
