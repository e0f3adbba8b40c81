//! Schedules. Names and plans are bytes: a text's comparison would depend on its collation.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::NOW_MS;
use crate::{
    schedules::{ScheduleDialect, StoredSchedule},
    topic::SCHEDULES,
};

#[async_trait]
impl ScheduleDialect for MySql {
    async fn create_schedules(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {SCHEDULES} (
                name varbinary(255) not null primary key,
                plan varbinary(1000) not null,
                next_ms bigint not null,
                fired bigint not null default 0
            ) engine = InnoDB"
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn now_ms(connection: &mut MySqlConnection) -> sqlx::Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(format!("select {NOW_MS}"))).fetch_one(connection).await
    }

    async fn schedules(connection: &mut MySqlConnection) -> sqlx::Result<Vec<StoredSchedule>> {
        let rows: Vec<(Vec<u8>, Vec<u8>, i64)> =
            sqlx::query_as(AssertSqlSafe(format!("select name, plan, next_ms from {SCHEDULES}")))
                .fetch_all(connection)
                .await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let rows = rows.into_iter();
        Ok(rows
            .map(|(name, plan, next_ms)| StoredSchedule { name: text(name), plan: text(plan), next_ms })
            .collect())
    }

    async fn add_schedule(connection: &mut MySqlConnection, schedule: &StoredSchedule) -> sqlx::Result<()> {
        let insert = format!("insert ignore into {SCHEDULES} (name, plan, next_ms) values (?, ?, ?)");
        sqlx::query(AssertSqlSafe(insert))
            .bind(schedule.name.as_bytes())
            .bind(schedule.plan.as_bytes())
            .bind(schedule.next_ms)
            .execute(connection)
            .await
            .map(drop)
    }

    async fn change_schedule(
        connection: &mut MySqlConnection,
        schedule: &StoredSchedule,
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set plan = ?, next_ms = ? where name = ? and plan <> ?"
        )))
        .bind(schedule.plan.as_bytes())
        .bind(schedule.next_ms)
        .bind(schedule.name.as_bytes())
        .bind(schedule.plan.as_bytes())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn advance_schedule(
        connection: &mut MySqlConnection,
        schedule: &StoredSchedule,
        next_ms: i64,
    ) -> sqlx::Result<bool> {
        let advanced = sqlx::query(AssertSqlSafe(format!(
            "update {SCHEDULES} set next_ms = ?, fired = fired + 1 where name = ? and plan = ? and next_ms = ?"
        )))
        .bind(next_ms)
        .bind(schedule.name.as_bytes())
        .bind(schedule.plan.as_bytes())
        .bind(schedule.next_ms)
        .execute(connection)
        .await?;
        Ok(advanced.rows_affected() > 0)
    }

    async fn remove_schedule(connection: &mut MySqlConnection, name: &str) -> sqlx::Result<bool> {
        let delete = format!("delete from {SCHEDULES} where name = ?");
        let removed = sqlx::query(AssertSqlSafe(delete)).bind(name.as_bytes()).execute(connection).await?;
        Ok(removed.rows_affected() > 0)
    }
}
