//! Go on MySQL: in the order of offsets, serializable, with the group's row locked while it works.

use async_trait::async_trait;
use sqlx::{MySql, MySqlPool};

use crate::{Go, Side, mysql_database::Database, take_turns};

#[async_trait]
impl Go for Database {
    type Database = MySql;

    async fn pool(&self) -> MySqlPool {
        Self::pool(self).await
    }

    async fn create_tables(pool: &MySqlPool) {
        sqlx::raw_sql(
            "create table `watermill_t` (
                 `offset` bigint auto_increment, `uuid` varchar(36) not null,
                 `created_at` timestamp not null default current_timestamp,
                 `payload` json default null, `metadata` json default null, primary key (`offset`));
             create table `watermill_offsets_t` (
                 consumer_group varchar(255) not null, offset_acked bigint, offset_consumed bigint not null,
                 primary key (consumer_group))",
        )
        .execute(pool)
        .await
        .unwrap();
    }

    async fn publish(pool: &MySqlPool, id: &str) {
        sqlx::query("insert into `watermill_t` (`uuid`, `payload`, `metadata`) values (?, '{}', '{}')")
            .bind(id)
            .execute(pool)
            .await
            .unwrap();
    }

    async fn read(pool: &MySqlPool, group: &str) -> Option<String> {
        let mut connection = pool.acquire().await.unwrap();
        let isolate = "set transaction isolation level serializable";
        sqlx::raw_sql(isolate).execute(&mut *connection).await.unwrap();
        let mut work = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let acked: Option<Option<i64>> = sqlx::query_scalar(
            "select offset_acked from `watermill_offsets_t` where consumer_group = ? for update",
        )
        .bind(group)
        .fetch_optional(&mut *work)
        .await
        .unwrap();
        let (offset, id): (i64, String) = sqlx::query_as(
            "select `offset`, `uuid` from `watermill_t` where `offset` > ? order by `offset` limit 1",
        )
        .bind(acked.flatten().unwrap_or(0))
        .fetch_optional(&mut *work)
        .await
        .unwrap()?;
        for statement in [
            "insert into `watermill_offsets_t` (consumer_group, offset_consumed) values (?, ?)
             on duplicate key update offset_consumed = values(offset_consumed)",
            "insert into `watermill_offsets_t` (consumer_group, offset_consumed, offset_acked) values (?, ?, ?)
             on duplicate key update offset_consumed = values(offset_consumed),
                 offset_acked = values(offset_acked)",
        ] {
            let mut query = sqlx::query(statement).bind(group).bind(offset);
            if statement.contains("offset_acked") {
                query = query.bind(offset);
            }
            query.execute(&mut *work).await.unwrap();
        }
        work.commit().await.unwrap();
        Some(id)
    }
}

#[tokio::test]
async fn on_tables_that_go_made() {
    take_turns::<Database>(Side::Go).await;
}

#[tokio::test]
async fn on_tables_that_were_made_here() {
    take_turns::<Database>(Side::Ours).await;
}
