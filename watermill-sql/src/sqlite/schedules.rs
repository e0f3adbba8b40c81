//! Schedules.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::NOW_MS;
use crate::{
    schedules::{ScheduleDialect, StoredSchedule},
    topic::SCHEDULES,
};

#[async_trait]
impl ScheduleDialect for Sqlite {
    async fn create_schedules(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {SCHEDULES} (
                name text not null primary key,
                plan text not null,
                next_ms integer not null,
                fired integer not null default 0
            )"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn now_ms(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(format!("select {NOW_MS}"))).fetch_one(connection).await
    }

    async fn schedules(connection: &mut SqliteConnection) -> sqlx::Result<Vec<StoredSchedule>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(format!("select name, plan, next_ms from {SCHEDULES}")))
                .fetch_all(connection)
                .await?;
        Ok(rows.into_iter().map(|(name, plan, next_ms)| StoredSchedule { name, plan, next_ms }).collect())
    }

    async fn add_schedule(connection: &mut SqliteConnection, schedule: &StoredSchedule) -> sqlx::Result<()> {
        let insert =
            format!("insert into {SCHEDULES} (name, plan, next_ms) values (?, ?, ?) on conflict do nothing");
        sqlx::query(AssertSqlSafe(insert))
            .bind(&schedule.name)
            .bind(&schedule.plan)
            .bind(schedule.next_ms)
            .execute(connection)
            .await
            .map(drop)
    }

    async fn change_schedule(
        connection: &mut SqliteConnection,
        schedule: &StoredSchedule,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set plan = ?2, next_ms = ?3 where name = ?1 and plan <> ?2"
        )))
        .bind(&schedule.name)
        .bind(&schedule.plan)
        .bind(schedule.next_ms)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn advance_schedule(
        connection: &mut SqliteConnection,
        schedule: &StoredSchedule,
        next_ms: i64,
    ) -> sqlx::Result<bool> {
        let advanced = sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set next_ms = ?, fired = fired + 1 where name = ? and plan = ? and next_ms = ?"
        )))
        .bind(next_ms)
        .bind(&schedule.name)
        .bind(&schedule.plan)
        .bind(schedule.next_ms)
        .execute(connection)
        .await?;
        Ok(advanced.rows_affected() > 0)
    }

    async fn remove_schedule(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<bool> {
        let delete = format!("delete from {SCHEDULES} where name = ?");
        let removed = sqlx::query(AssertSqlSafe(delete)).bind(name).execute(connection).await?;
        Ok(removed.rows_affected() > 0)
    }
}
