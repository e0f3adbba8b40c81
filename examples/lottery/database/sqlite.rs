//! SQLite: a file, or one in a temporary folder.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use watermill_core::error::BoxError;

use super::{
    Database,
    kind::{Kind, Sql},
};

const SCHEMA: &str = "
    create table if not exists winners (lottery integer primary key, winner text not null);
    create table if not exists announcements (lottery integer primary key);
    create table if not exists prizes (lottery integer primary key, winner text not null);
";

pub(super) async fn open(file: Option<&Path>) -> Result<Arc<dyn Database>, BoxError> {
    if let Some(file) = file {
        return Ok(Arc::new(Sql { pool: pool(file).await?, _folder: None }));
    }
    let folder = tempfile::Builder::new().prefix("lottery-").tempdir()?;
    let pool = pool(&folder.path().join("lottery.db")).await?;
    Ok(Arc::new(Sql { pool, _folder: Some(folder) }))
}

async fn pool(file: &Path) -> Result<SqlitePool, BoxError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options)
        .await
        .map_err(|error| format!("open the database {}: {error}", file.display()))?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    Ok(pool)
}

#[async_trait]
impl Kind for Sqlite {
    const STORE: &str = "insert into winners (lottery, winner) values (?, ?)";
    const NOTE_ANNOUNCEMENT: &str = "insert into announcements (lottery) values (?) on conflict do nothing";
    const SEND_PRIZE: &str = "
        insert into prizes (lottery, winner) select lottery, winner from winners where lottery = ?
        on conflict do update set winner = excluded.winner";
    const FROM_FIRST: &str = "where lottery >= ?";

    async fn execute(
        connection: &mut SqliteConnection,
        statement: &'static str,
        lottery: i64,
        winner: Option<&str>,
    ) -> sqlx::Result<u64> {
        let query = sqlx::query(statement).bind(lottery);
        let query = match winner {
            Some(winner) => query.bind(winner),
            None => query,
        };
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn numbers(connection: &mut SqliteConnection, query: String, first: i64) -> sqlx::Result<Vec<i64>> {
        sqlx::query_scalar(AssertSqlSafe(query)).bind(first).fetch_all(connection).await
    }

    async fn highest(connection: &mut SqliteConnection, query: &'static str) -> sqlx::Result<i64> {
        sqlx::query_scalar(query).fetch_one(connection).await
    }
}
