//! SQLite: one writer at a time.

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use watermill_sql::SqlSubscriberConfig;

use crate::{
    Foreign, Load, TOPIC, missing_above_last, prove, prove_of_a_source,
    server::{RowId, Server, Tx, row_id},
};

struct File {
    pool: SqlitePool,
    _directory: TempDir,
}

impl File {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("chaos.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(watermill_testkit::patience());
        let pool = SqlitePoolOptions::new().max_connections(12).connect_with(options).await.unwrap();
        Self { pool, _directory: directory }
    }
}

#[async_trait]
impl Server for File {
    type Database = Sqlite;

    const QUOTE: char = '"';
    const MANY_WRITERS: bool = false;
    const TWO_PHASE: bool = false;

    fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    fn reading_pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// A transaction that reads before it writes may not wait for another that writes.
    async fn begin(&self) -> sqlx::Result<Tx<Self>> {
        self.pool.begin_with("begin immediate").await
    }

    async fn execute(connection: &mut SqliteConnection, statement: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    async fn killer(_victim: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
        Ok(None)
    }

    async fn rows_after(&self, offset: i64) -> sqlx::Result<Vec<(i64, RowId)>> {
        let query = format!(
            r#"select "offset", cast(payload as text) from watermill_{TOPIC} where "offset" > ? order by 1"#
        );
        let rows: Vec<(i64, String)> =
            sqlx::query_as(AssertSqlSafe(query)).bind(offset).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(offset, payload)| (offset, row_id(payload.as_bytes()))).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost() {
    let load = Load { writers: 4, transactions: 50, seed: 4 };
    prove(File::new().await, load, SqlSubscriberConfig::default(), Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_is_not_ours_nothing_is_lost() {
    let load = Load { writers: 4, transactions: 50, seed: 10 };
    prove_of_a_source(File::new().await, load, Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn even_a_reader_above_its_last_offset_loses_nothing() {
    let load = Load { writers: 4, transactions: 50, seed: 5 };
    assert_eq!(missing_above_last(File::new().await, load).await, 0);
}
