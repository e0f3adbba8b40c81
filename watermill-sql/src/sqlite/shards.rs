//! The plans of shards.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Sqlite, SqliteConnection};

use crate::{
    shards::{Replaced, ShardsDialect, Turn},
    topic::{LEASES, SHARDS, Tables},
};

#[async_trait]
impl ShardsDialect for Sqlite {
    async fn create_shards(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {SHARDS} (
                topic text not null collate nocase,
                consumer_group text not null,
                plan text not null,
                primary key (topic, consumer_group)
            ) without rowid"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn plan(
        connection: &mut SqliteConnection,
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
        connection: &mut SqliteConnection,
        topic: &str,
        group: &str,
        plan: &str,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "insert into {SHARDS} (topic, consumer_group, plan) values (?, ?, ?) on conflict do nothing"
        )))
        .bind(topic)
        .bind(group)
        .bind(plan)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn replace_plan(connection: &mut SqliteConnection, replaced: &Replaced<'_>) -> sqlx::Result<bool> {
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

    async fn highest_offset(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<i64> {
        let highest = format!("select coalesce(max({}), 0) from {}", tables.offset(), tables.messages());
        sqlx::query_scalar(AssertSqlSafe(highest)).fetch_one(connection).await
    }

    async fn forget_position(
        connection: &mut SqliteConnection,
        tables: &Tables,
        group: &str,
    ) -> sqlx::Result<()> {
        let forget = format!("delete from {} where consumer_group = ?", tables.offsets());
        sqlx::query(AssertSqlSafe(forget)).bind(group).execute(connection).await.map(drop)
    }

    async fn forget_lease(connection: &mut SqliteConnection, topic: &str, group: &str) -> sqlx::Result<()> {
        let forget = format!("delete from {LEASES} where topic = ? and consumer_group = ?");
        sqlx::query(AssertSqlSafe(forget)).bind(topic).bind(group).execute(connection).await.map(drop)
    }

    async fn turn(connection: &mut SqliteConnection, tables: &Tables, turn: &Turn<'_>) -> sqlx::Result<bool> {
        // The first statement writes: a transaction that began with a read could not be sure to write.
        let mut transaction = connection.begin().await?;
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
                "insert into {offsets} (consumer_group, offset_acked, locked_until) values (?, ?, 0)
                 on conflict do nothing"
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
