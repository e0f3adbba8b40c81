//! Go on SQLite: in the order of offsets, with a lease in the group's row.

use async_trait::async_trait;
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;

use crate::{Go, Side, take_turns};

struct File(TempDir);

impl Default for File {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Go for File {
    type Database = Sqlite;

    async fn pool(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(self.0.path().join("shared.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        SqlitePool::connect_with(options).await.unwrap()
    }

    async fn create_tables(pool: &SqlitePool) {
        sqlx::raw_sql(
            r#"create table "watermill_t" (
                   "offset" integer primary key autoincrement, uuid text not null,
                   created_at text not null, payload blob, metadata json not null);
               create table "watermill_offsets_t" (
                   consumer_group text not null primary key, offset_acked integer not null,
                   locked_until integer not null)"#,
        )
        .execute(pool)
        .await
        .unwrap();
    }

    async fn publish(pool: &SqlitePool, id: &str) {
        sqlx::query(
            r#"insert into "watermill_t" (uuid, created_at, payload, metadata)
               values (?, '2026-01-02T03:04:05Z', x'7b7d', '{}')"#,
        )
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    }

    async fn read(pool: &SqlitePool, group: &str) -> Option<String> {
        sqlx::query(r#"insert into "watermill_offsets_t" values (?, 0, 0) on conflict do nothing"#)
            .bind(group)
            .execute(pool)
            .await
            .unwrap();
        let acked: i64 = sqlx::query_scalar(
            r#"update "watermill_offsets_t" set locked_until = unixepoch() + 30
               where consumer_group = ? and locked_until < unixepoch() returning offset_acked"#,
        )
        .bind(group)
        .fetch_optional(pool)
        .await
        .unwrap()?;
        let next: Option<(i64, String)> = sqlx::query_as(
            r#"select "offset", uuid from "watermill_t" where "offset" > ? order by "offset" limit 1"#,
        )
        .bind(acked)
        .fetch_optional(pool)
        .await
        .unwrap();
        // It acks and, since it is stopped, unlocks.
        sqlx::query(
            r#"update "watermill_offsets_t" set offset_acked = ?, locked_until = 0 where consumer_group = ?"#,
        )
        .bind(next.as_ref().map_or(acked, |(offset, _)| *offset))
        .bind(group)
        .execute(pool)
        .await
        .unwrap();
        next.map(|(_, id)| id)
    }
}

#[tokio::test]
async fn on_tables_that_go_made() {
    take_turns::<File>(Side::Go).await;
}

#[tokio::test]
async fn on_tables_that_were_made_here() {
    take_turns::<File>(Side::Ours).await;
}
