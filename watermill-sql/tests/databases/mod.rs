//! [`TestDatabase`]: a database of its own for one test, of every kind that is compiled in, and the macros that make a
//! test for each kind of what is written once.

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
pub(crate) mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
pub(crate) mod postgres_database;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Pool, Transaction};
use watermill_sql::SqlDatabase;

/// What every suite needs of a database; what else one needs is in a trait of its own above this one.
#[async_trait]
pub(crate) trait TestDatabase: Default + Send + Sync + 'static {
    type Database: SqlDatabase;

    async fn connect(&self) -> Pool<Self::Database>;

    async fn execute(pool: &Pool<Self::Database>, statements: &str);

    /// The same inside a transaction.
    async fn execute_in(transaction: &mut Transaction<'_, Self::Database>, statement: &str);

    async fn number(pool: &Pool<Self::Database>, query: &str) -> i64;
}

/// A database of SQLite.
#[cfg(feature = "sqlite")]
pub(crate) struct File(tempfile::TempDir);

#[cfg(feature = "sqlite")]
impl File {
    async fn pool(&self) -> Pool<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.0.path().join("test.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            // Machines that run tests are busy.
            .busy_timeout(std::time::Duration::from_secs(30));
        sqlx::sqlite::SqlitePoolOptions::new().max_connections(5).connect_with(options).await.unwrap()
    }
}

#[cfg(feature = "sqlite")]
impl Default for File {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

/// Each database says the same in types of its own.
macro_rules! test_database {
    ($place:ty, $database:ty) => {
        #[async_trait]
        impl TestDatabase for $place {
            type Database = $database;

            async fn connect(&self) -> Pool<$database> {
                self.pool().await
            }

            async fn execute(pool: &Pool<$database>, statements: &str) {
                sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
            }

            async fn execute_in(transaction: &mut Transaction<'_, $database>, statement: &str) {
                let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
                statement.execute(&mut **transaction).await.unwrap();
            }

            async fn number(pool: &Pool<$database>, query: &str) -> i64 {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
            }
        }
    };
}

#[cfg(feature = "sqlite")]
test_database!(File, sqlx::Sqlite);
#[cfg(feature = "postgres")]
test_database!(postgres_database::Database, sqlx::Postgres);
#[cfg(feature = "mysql")]
test_database!(mysql_database::Database, sqlx::MySql);

/// Tests of one database. Each is a function of its area that is generic over the database.
macro_rules! on {
    ($server:ty, $($area:ident::$test:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() { crate::$area::$test::<$server>().await; }
    )* };
}

/// Tests of the databases that are servers, in modules of these names.
macro_rules! on_servers {
    ($postgres:ident, $mysql:ident, $($area:ident::$test:ident,)*) => {
        #[cfg(feature = "postgres")]
        mod $postgres {
            on!(crate::databases::postgres_database::Database, $($area::$test,)*);
        }
        #[cfg(feature = "mysql")]
        mod $mysql {
            on!(crate::databases::mysql_database::Database, $($area::$test,)*);
        }
    };
}

/// Tests of every database that is compiled in.
macro_rules! on_every_database {
    ($($area:ident::$test:ident,)*) => {
        #[cfg(feature = "sqlite")]
        mod sqlite {
            on!(crate::databases::File, $($area::$test,)*);
        }
        on_servers!(postgres, mysql, $($area::$test,)*);
    };
}
