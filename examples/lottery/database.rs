//! [`Database`]: winners, and what the prize service knows.

use std::{collections::BTreeSet, path::Path};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use watermill_core::error::BoxError;

use crate::options::DatabaseUrl;

/// The lottery owns `winners`; the prize service owns `announcements` and `prizes`.
const SCHEMA: &str = "
    create table if not exists winners (lottery integer primary key, winner text not null);
    create table if not exists announcements (lottery integer primary key);
    create table if not exists prizes (lottery integer primary key, winner text not null);
";

/// A pool of connections, and the folder of a temporary database.
pub(crate) struct Database {
    pub(crate) pool: SqlitePool,
    _folder: Option<TempDir>,
}

/// The lotteries that each part knows of.
pub(crate) struct Stored {
    pub(crate) winners: BTreeSet<i64>,
    pub(crate) announcements: BTreeSet<i64>,
    pub(crate) prizes: BTreeSet<i64>,
}

impl Database {
    /// Opens a database and creates its tables.
    pub(crate) async fn open(url: &DatabaseUrl) -> Result<Self, BoxError> {
        match url {
            DatabaseUrl::Sqlite(Some(file)) => Ok(Self { pool: pool(file).await?, _folder: None }),
            DatabaseUrl::Sqlite(None) => {
                let folder = tempfile::Builder::new().prefix("lottery-").tempdir()?;
                let pool = pool(&folder.path().join("lottery.db")).await?;
                Ok(Self { pool, _folder: Some(folder) })
            }
        }
    }

    /// The id of the first lottery that nobody knows of: a database may be used for several runs.
    pub(crate) async fn first_lottery(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "select coalesce(max(lottery), 0) + 1
             from (select lottery from winners union all select lottery from announcements)",
        )
        .fetch_one(&self.pool)
        .await
    }

    /// How many lotteries from `first` on the prize service has heard of, and has sent prizes for.
    pub(crate) async fn heard_from(&self, first: i64) -> Result<(i64, i64), sqlx::Error> {
        sqlx::query_as(
            "select (select count(*) from announcements where lottery >= ?1),
                    (select count(*) from prizes where lottery >= ?1)",
        )
        .bind(first)
        .fetch_one(&self.pool)
        .await
    }

    /// What is stored about lotteries from `first` on.
    pub(crate) async fn stored_from(&self, first: i64) -> Result<Stored, sqlx::Error> {
        let lotteries = async |query: &'static str| -> Result<BTreeSet<i64>, sqlx::Error> {
            let rows: Vec<i64> = sqlx::query_scalar(query).bind(first).fetch_all(&self.pool).await?;
            Ok(rows.into_iter().collect())
        };
        Ok(Stored {
            winners: lotteries("select lottery from winners where lottery >= ?").await?,
            announcements: lotteries("select lottery from announcements where lottery >= ?").await?,
            prizes: lotteries("select lottery from prizes where lottery >= ?").await?,
        })
    }
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
