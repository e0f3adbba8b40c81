//! PostgreSQL: many writers, two phases.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, postgres::PgPoolOptions};
use watermill_sql::{CommitOrder, SqlSubscriberConfig};

use crate::{
    Foreign, Load, TOPIC, missing_above_last,
    postgres_database::Database,
    prove, prove_of_a_source,
    server::{RowId, Server, Tx, row_id},
};

struct Private {
    writing: PgPool,
    reading: PgPool,
    _database: Database,
}

impl Private {
    async fn new() -> Self {
        let database = Database::default();
        let writing = PgPoolOptions::new().max_connections(40).connect_with(database.options.clone()).await;
        Self { writing: writing.unwrap(), reading: database.pool().await, _database: database }
    }
}

#[async_trait]
impl Server for Private {
    type Database = Postgres;

    const QUOTE: char = '"';
    const MANY_WRITERS: bool = true;
    const TWO_PHASE: bool = true;

    fn pool(&self) -> &PgPool {
        &self.writing
    }

    fn reading_pool(&self) -> &PgPool {
        &self.reading
    }

    async fn begin(&self) -> sqlx::Result<Tx<Self>> {
        self.writing.begin().await
    }

    async fn execute(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    async fn killer(victim: &mut PgConnection) -> sqlx::Result<Option<String>> {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(victim).await?;
        Ok(Some(format!("select pg_terminate_backend({pid})")))
    }

    async fn rows_after(&self, offset: i64) -> sqlx::Result<Vec<(i64, RowId)>> {
        let query = format!(
            r#"select "offset", payload::text from watermill_{TOPIC} where "offset" > $1 order by 1"#
        );
        let rows: Vec<(i64, String)> =
            sqlx::query_as(AssertSqlSafe(query)).bind(offset).fetch_all(&self.reading).await?;
        Ok(rows.into_iter().map(|(offset, payload)| (offset, row_id(payload.as_bytes()))).collect())
    }
}

fn reading_by(order: CommitOrder) -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().commit_order(order)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_lock_holders_nothing_is_lost_and_no_foreign_transaction_waited_for() {
    let load = Load { writers: 12, transactions: 150, seed: 1 };
    prove(Private::new().await, load, reading_by(CommitOrder::LockHolders), Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_snapshot_nothing_is_lost() {
    let load = Load { writers: 12, transactions: 150, seed: 2 };
    prove(Private::new().await, load, reading_by(CommitOrder::Snapshot), Foreign::DuringTheWriting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_is_not_ours_nothing_is_lost_and_no_foreign_transaction_waited_for() {
    let load = Load { writers: 12, transactions: 80, seed: 8 };
    prove_of_a_source(Private::new().await, load, Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_above_its_last_offset_loses_rows() {
    let missing = missing_above_last(Private::new().await, Load { writers: 12, transactions: 60, seed: 3 });
    assert_ne!(missing.await, 0);
}
