//! MySQL and MariaDB by hand.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Row as _, mysql::MySqlPoolOptions};

#[path = "../../tests/mysql_database/mod.rs"]
mod database;

use crate::raw::{Raw, Row};

const NOW_MS: &str = "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000)";

#[derive(Default)]
pub(crate) struct MySql(database::Database);

#[async_trait]
impl Raw for MySql {
    type Database = sqlx::MySql;

    const NAME: &str = "mysql";

    async fn pool(&self, connections: u32) -> Pool<sqlx::MySql> {
        let options = MySqlPoolOptions::new().max_connections(connections);
        options.connect_with(self.0.options.clone()).await.expect("the server answers")
    }

    async fn execute(pool: &Pool<sqlx::MySql>, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect("it works");
    }

    async fn insert(pool: &Pool<sqlx::MySql>, topic: &str, rows: &[Row]) {
        let values = vec!["(?,?,?)"; rows.len()].join(",");
        let insert = format!("insert into `watermill_{topic}` (uuid, payload, metadata) values {values}");
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for (id, payload, metadata) in rows {
            query = query.bind(id).bind(payload).bind(metadata);
        }
        query.execute(pool).await.expect("it is inserted");
    }

    async fn fill(pool: &Pool<sqlx::MySql>, topic: &str, doublings: u32) {
        let table = format!("`watermill_{topic}`");
        for _ in 0..doublings {
            Self::execute(
                pool,
                &format!("insert into {table} (uuid, payload, metadata) select uuid, payload, metadata from {table}"),
            )
            .await;
        }
        Self::execute(pool, &format!("analyze table {table}")).await;
    }

    async fn read(pool: &Pool<sqlx::MySql>, topic: &str, batch: usize, messages: usize) {
        Self::execute(pool, "create table if not exists positions (id int primary key, at bigint not null)")
            .await;
        Self::execute(pool, "insert ignore into positions values (1, 0)").await;
        let select = format!(
            "select `offset`, uuid, payload, metadata from `watermill_{topic}`
             where `offset` > ? order by `offset` limit ?"
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
                after = std::hint::black_box(copy(row)).0;
            }
            left = left.saturating_sub(rows.len());
            sqlx::query("update positions set at = ? where id = 1")
                .bind(after)
                .execute(pool)
                .await
                .expect("it is kept");
        }
    }

    async fn claim_and_delete(pool: &Pool<sqlx::MySql>, topic: &str, batch: usize) {
        use sqlx::Connection as _;

        let select = format!(
            "select `offset`, uuid, payload, metadata from `watermill_{topic}`
             where acked = 0 and due_ms <= {NOW_MS} order by due_ms, `offset` limit ? for update skip locked"
        );
        let mut connection = pool.acquire().await.expect("a connection");
        loop {
            let begin = "set transaction isolation level read committed; start transaction";
            let mut transaction = connection.begin_with(begin).await.expect("it begins");
            let rows = sqlx::query(AssertSqlSafe(select.clone()))
                .bind(batch as i64)
                .fetch_all(&mut *transaction)
                .await
                .expect("it is read");
            if rows.is_empty() {
                break;
            }
            let offsets: Vec<String> =
                rows.iter().map(|row| std::hint::black_box(copy(row)).0.to_string()).collect();
            let offsets = offsets.join(",");
            sqlx::raw_sql(AssertSqlSafe(format!(
                "update `watermill_{topic}` set due_ms = {NOW_MS} + 30000 where `offset` in ({offsets})"
            )))
            .execute(&mut *transaction)
            .await
            .expect("it is claimed");
            transaction.commit().await.expect("it commits");
            sqlx::raw_sql(AssertSqlSafe(format!(
                "delete from `watermill_{topic}` where `offset` in ({offsets})"
            )))
            .execute(&mut *connection)
            .await
            .expect("it is deleted");
        }
    }

    async fn refill_queue(pool: &Pool<sqlx::MySql>, topic: &str, rows: usize) {
        let (id, payload, metadata) = &crate::raw::rows(&[watermill_testkit::workload::message(0)])[0];
        let table = format!("`watermill_{topic}`");
        Self::execute(pool, &format!("truncate {table}")).await;
        Self::execute(
            pool,
            &format!(
                "insert into {table} (uuid, payload, metadata) values ('{id}', '{payload}', '{metadata}')"
            ),
        )
        .await;
        let mut there = 1;
        while there < rows {
            let more = there.min(rows - there);
            Self::execute(
                pool,
                &format!(
                    "insert into {table} (uuid, payload, metadata)
                     select uuid, payload, metadata from {table} limit {more}"
                ),
            )
            .await;
            there += more;
        }
        Self::execute(pool, &format!("analyze table {table}")).await;
    }

    async fn statements(pool: &Pool<sqlx::MySql>) -> u64 {
        let row =
            sqlx::query("show global status like 'Questions'").fetch_one(pool).await.expect("it is counted");
        row.get::<String, _>(1).parse().expect("a number")
    }
}

/// Whatever type the server gives the columns.
fn copy(row: &sqlx::mysql::MySqlRow) -> (i64, Vec<u8>, Vec<u8>, Vec<u8>) {
    let bytes = |column| row.get_unchecked::<Vec<u8>, _>(column);
    (row.get(0), bytes(1), bytes(2), bytes(3))
}
