//! Go on PostgreSQL: in the order of transactions, with the group's row locked while it works.

use async_trait::async_trait;
use sqlx::{PgPool, Postgres};
use watermill_sql::{CommitOrder, SqlSubscriberConfig};

use crate::{Go, Side, postgres_database::Database, take_turns};

#[async_trait]
impl Go for Database {
    type Database = Postgres;

    async fn pool(&self) -> PgPool {
        Self::pool(self).await
    }

    async fn create_tables(pool: &PgPool) {
        sqlx::raw_sql(
            r#"create table "watermill_t" (
                   "offset" bigserial, uuid varchar(36) not null,
                   created_at timestamp not null default current_timestamp,
                   payload json default null, metadata json default null,
                   transaction_id xid8 not null, primary key (transaction_id, "offset"));
               create table "watermill_offsets_t" (
                   consumer_group varchar(255) not null, offset_acked bigint,
                   last_processed_transaction_id xid8 not null, primary key (consumer_group))"#,
        )
        .execute(pool)
        .await
        .unwrap();
    }

    async fn publish(pool: &PgPool, id: &str) {
        sqlx::query(
            r#"insert into "watermill_t" (uuid, payload, metadata, transaction_id)
               values ($1, '{}', '{}', pg_current_xact_id())"#,
        )
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    }

    async fn read(pool: &PgPool, group: &str) -> Option<String> {
        sqlx::query(
            r#"insert into "watermill_offsets_t" (consumer_group, offset_acked, last_processed_transaction_id)
               values ($1, 0, '0') on conflict do nothing"#,
        )
        .bind(group)
        .execute(pool)
        .await
        .unwrap();
        let mut work = pool.begin().await.unwrap();
        let (acked, transaction): (i64, String) = sqlx::query_as(
            r#"select offset_acked, last_processed_transaction_id::text from "watermill_offsets_t"
               where consumer_group = $1 for update"#,
        )
        .bind(group)
        .fetch_one(&mut *work)
        .await
        .unwrap();
        let (offset, transaction, id): (i64, String, String) = sqlx::query_as(
            r#"select "offset", transaction_id::text, uuid from "watermill_t"
               where (transaction_id > $1::text::xid8 or (transaction_id = $1::text::xid8 and "offset" > $2))
                 and transaction_id < pg_snapshot_xmin(pg_current_snapshot())
               order by transaction_id, "offset" limit 1"#,
        )
        .bind(transaction)
        .bind(acked)
        .fetch_optional(&mut *work)
        .await
        .unwrap()?;
        sqlx::query(
            r#"insert into "watermill_offsets_t" (consumer_group, offset_acked, last_processed_transaction_id)
               values ($1, $2, $3::text::xid8)
               on conflict (consumer_group) do update set offset_acked = excluded.offset_acked,
                   last_processed_transaction_id = excluded.last_processed_transaction_id"#,
        )
        .bind(group)
        .bind(offset)
        .bind(transaction)
        .execute(&mut *work)
        .await
        .unwrap();
        work.commit().await.unwrap();
        Some(id)
    }

    fn reading() -> SqlSubscriberConfig {
        SqlSubscriberConfig::default().commit_order(CommitOrder::Snapshot)
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
