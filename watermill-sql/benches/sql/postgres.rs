//! PostgreSQL by hand.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Row as _, postgres::PgPoolOptions};

#[path = "../../tests/postgres_database/mod.rs"]
mod database;

use crate::raw::{Raw, Row};

#[derive(Default)]
pub(crate) struct Postgres(database::Database);

#[async_trait]
impl Raw for Postgres {
    type Database = sqlx::Postgres;

    const NAME: &str = "postgres";

    async fn pool(&self, connections: u32) -> Pool<sqlx::Postgres> {
        let options = PgPoolOptions::new().max_connections(connections);
        options.connect_with(self.0.options.clone()).await.expect("the server answers")
    }

    async fn execute(pool: &Pool<sqlx::Postgres>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect("it works");
    }

    async fn insert(pool: &Pool<sqlx::Postgres>, topic: &str, rows: &[Row]) {
        let (ids, (payloads, metadata)): (Vec<&str>, (Vec<&str>, Vec<&str>)) =
            rows.iter().map(|(id, payload, metadata)| (&**id, (&**payload, &**metadata))).unzip();
        sqlx::query(AssertSqlSafe(format!(
            r#"insert into "watermill_{topic}" (uuid, payload, metadata, transaction_id)
               select id, payload::json, metadata::json, pg_current_xact_id()
               from unnest($1::text[], $2::text[], $3::text[]) as new (id, payload, metadata)"#
        )))
        .bind(ids)
        .bind(payloads)
        .bind(metadata)
        .execute(pool)
        .await
        .expect("it is inserted");
    }

    async fn fill(pool: &Pool<sqlx::Postgres>, topic: &str, doublings: u32) {
        for _ in 0..doublings {
            let table = format!(r#""watermill_{topic}""#);
            Self::execute(
                pool,
                &format!("insert into {table} (uuid, payload, metadata) select uuid, payload, metadata from {table}"),
            )
            .await;
        }
        Self::execute(pool, &format!(r#"vacuum analyze "watermill_{topic}""#)).await;
    }

    async fn read(pool: &Pool<sqlx::Postgres>, topic: &str, batch: usize, messages: usize) {
        Self::execute(pool, "create table if not exists positions (id int primary key, at bigint not null)")
            .await;
        Self::execute(pool, "insert into positions values (1, 0) on conflict do nothing").await;
        let select = format!(
            r#"select "offset", uuid, payload::text, metadata::text from "watermill_{topic}"
               where "offset" > $1 order by "offset" limit $2"#
        );
        let (mut after, mut left) = (0_i64, messages);
        while left > 0 {
            let rows = sqlx::query(AssertSqlSafe(select.clone()))
                .bind(after)
                .bind(batch as i64)
                .fetch_all(pool)
                .await
                .expect("it is read");
            for row in &rows {
                let read: (i64, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
                after = std::hint::black_box(read).0;
            }
            left = left.saturating_sub(rows.len());
            sqlx::query("update positions set at = $1 where id = 1")
                .bind(after)
                .execute(pool)
                .await
                .expect("it is kept");
        }
    }

    async fn claim_and_delete(pool: &Pool<sqlx::Postgres>, topic: &str, batch: usize) {
        let claim = format!(
            r#"update "watermill_{topic}" set due_ms = (extract(epoch from statement_timestamp()) * 1000)::bigint + 30000
               where "offset" in (
                   select "offset" from "watermill_{topic}"
                   where not acked and due_ms <= (extract(epoch from statement_timestamp()) * 1000)::bigint
                   order by due_ms, "offset" limit $1 for update skip locked
               )
               returning "offset", uuid, payload::text, metadata::text"#
        );
        let delete = format!(r#"delete from "watermill_{topic}" where "offset" = any($1)"#);
        let mut connection = pool.acquire().await.expect("a connection");
        loop {
            let rows = sqlx::query(AssertSqlSafe(claim.clone()))
                .bind(batch as i64)
                .fetch_all(&mut *connection)
                .await
                .expect("it is claimed");
            if rows.is_empty() {
                break;
            }
            let offsets: Vec<i64> = rows
                .iter()
                .map(|row| {
                    let read: (i64, String, String, String) =
                        (row.get(0), row.get(1), row.get(2), row.get(3));
                    std::hint::black_box(read).0
                })
                .collect();
            sqlx::query(AssertSqlSafe(delete.clone()))
                .bind(offsets)
                .execute(&mut *connection)
                .await
                .expect("it is deleted");
        }
    }

    async fn refill_queue(pool: &Pool<sqlx::Postgres>, topic: &str, rows: usize) {
        let (id, payload, metadata) = &crate::raw::rows(&[watermill_testkit::workload::message(0)])[0];
        Self::execute(
            pool,
            &format!(
                r#"truncate "watermill_{topic}";
                   insert into "watermill_{topic}" (uuid, payload, metadata)
                   select '{id}', '{payload}', '{metadata}' from generate_series(1, {rows})"#
            ),
        )
        .await;
        Self::execute(pool, &format!(r#"vacuum analyze "watermill_{topic}""#)).await;
    }

    async fn statements(pool: &Pool<sqlx::Postgres>) -> u64 {
        // Outside of transactions each statement is one; what is begun and committed is one too.
        sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.expect("it is counted");
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        let transactions: i64 = sqlx::query_scalar(
            "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()",
        )
        .fetch_one(pool)
        .await
        .expect("it is counted");
        transactions.unsigned_abs()
    }
}
