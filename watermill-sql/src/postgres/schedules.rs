//! Schedules.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::{NOW_MS, schema};
use crate::{
    schedules::{ScheduleDialect, StoredSchedule},
    topic::SCHEDULES,
};

#[async_trait]
impl ScheduleDialect for Postgres {
    async fn create_schedules(connection: &mut PgConnection) -> sqlx::Result<()> {
        schema::create_all(
            connection,
            format!(
                "create table if not exists {SCHEDULES} (
                    name text not null primary key,
                    plan text not null,
                    next_ms bigint not null,
                    fired bigint not null default 0
                )"
            ),
        )
        .await
    }

    async fn now_ms(connection: &mut PgConnection) -> sqlx::Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(format!("select {NOW_MS}"))).fetch_one(connection).await
    }

    async fn schedules(connection: &mut PgConnection) -> sqlx::Result<Vec<StoredSchedule>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(format!("select name, plan, next_ms from {SCHEDULES}")))
                .fetch_all(connection)
                .await?;
        Ok(rows.into_iter().map(|(name, plan, next_ms)| StoredSchedule { name, plan, next_ms }).collect())
    }

    async fn add_schedule(connection: &mut PgConnection, schedule: &StoredSchedule) -> sqlx::Result<()> {
        let insert = format!(
            "insert into {SCHEDULES} (name, plan, next_ms) values ($1, $2, $3) on conflict do nothing"
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(&schedule.name)
            .bind(&schedule.plan)
            .bind(schedule.next_ms)
            .execute(connection)
            .await
            .map(drop)
    }

    async fn change_schedule(connection: &mut PgConnection, schedule: &StoredSchedule) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set plan = $2, next_ms = $3 where name = $1 and plan <> $2"
        )))
        .bind(&schedule.name)
        .bind(&schedule.plan)
        .bind(schedule.next_ms)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn advance_schedule(
        connection: &mut PgConnection,
        schedule: &StoredSchedule,
        next_ms: i64,
    ) -> sqlx::Result<bool> {
        let advanced = sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set next_ms = $1, fired = fired + 1 where name = $2 and plan = $3 and next_ms = $4"
        )))
        .bind(next_ms)
        .bind(&schedule.name)
        .bind(&schedule.plan)
        .bind(schedule.next_ms)
        .execute(connection)
        .await?;
        Ok(advanced.rows_affected() > 0)
    }

    async fn remove_schedule(connection: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
        let delete = format!("delete from {SCHEDULES} where name = $1");
        let removed = sqlx::query(AssertSqlSafe(delete)).bind(name).execute(connection).await?;
        Ok(removed.rows_affected() > 0)
    }
}
