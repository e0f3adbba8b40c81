//! The plans of shards.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use crate::{
    connection::{ConnectionDialect as _, begin},
    shards::{Replaced, ShardsDialect, Turn},
    topic::{LEASES, SHARDS, Tables},
};

#[async_trait]
impl ShardsDialect for MySql {
    async fn create_shards(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {SHARDS} (
                topic varchar(64) not null,
                consumer_group varchar(255) not null,
                plan text not null,
                primary key (topic, consumer_group)
            ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn plan(
        connection: &mut MySqlConnection,
        topic: &str,
        group: &str,
    ) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select plan from {SHARDS} where topic = ? and consumer_group = ?"
        )))
        .bind(topic)
        .bind(group)
        .fetch_optional(connection)
        .await
    }

    async fn insert_plan(
        connection: &mut MySqlConnection,
        topic: &str,
        group: &str,
        plan: &str,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "insert ignore into {SHARDS} (topic, consumer_group, plan) values (?, ?, ?)"
        )))
        .bind(topic)
        .bind(group)
        .bind(plan)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn replace_plan(connection: &mut MySqlConnection, replaced: &Replaced<'_>) -> sqlx::Result<bool> {
        let written = sqlx::query(AssertSqlSafe(format!(
            "update {SHARDS} set plan = ? where topic = ? and consumer_group = ? and plan = ?"
        )))
        .bind(&replaced.to)
        .bind(replaced.topic)
        .bind(replaced.group)
        .bind(&replaced.from)
        .execute(connection)
        .await?;
        Ok(written.rows_affected() > 0)
    }

    async fn highest_offset(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<i64> {
        let highest = format!(
            "select cast(coalesce(max({}), 0) as signed) from {}",
            tables.offset(),
            tables.messages()
        );
        sqlx::query_scalar(AssertSqlSafe(highest)).fetch_one(connection).await
    }

    async fn forget_position(
        connection: &mut MySqlConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<()> {
        // To a table that Go made, a group that differs in case alone is the same; it is not.
        let forget = format!(
            "delete from {} where consumer_group = ? and cast(consumer_group as binary) = cast(? as binary)",
            tables.offsets()
        );
        sqlx::query(AssertSqlSafe(forget)).bind(group).bind(group).execute(connection).await.map(drop)
    }

    async fn forget_lease(connection: &mut MySqlConnection, topic: &str, group: &str) -> sqlx::Result<()> {
        let forget = format!("delete from {LEASES} where topic = ? and consumer_group = ?");
        sqlx::query(AssertSqlSafe(forget)).bind(topic).bind(group).execute(connection).await.map(drop)
    }

    async fn turn(connection: &mut MySqlConnection, tables: &Tables, turn: &Turn<'_>) -> sqlx::Result<bool> {
        let mut transaction = begin::<MySql>(connection, turn.silence).await?;
        if !Self::replace_plan(&mut transaction, &turn.replaced).await? {
            transaction.rollback().await?;
            MySql::end(connection).await?;
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
                "insert ignore into {offsets} (consumer_group, offset_acked, offset_consumed) values (?, ?, ?)"
            )))
            .bind(group)
            .bind(turn.position)
            .bind(turn.position)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        MySql::end(connection).await?;
        Ok(true)
    }
}
