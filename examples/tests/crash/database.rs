//! The databases, and what a handler writes to them.

use sqlx::{
    AssertSqlSafe, Connection as _, MySql, MySqlConnection, PgConnection, Pool, Postgres, Sqlite,
    mysql::MySqlConnectOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use watermill_sql::SqlDatabase;
use watermill_testkit::{Service, unique};

use crate::{Result, child::Steps};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Postgres,
    MySql,
    Sqlite,
}

/// What a handler writes to.
pub(crate) const TABLES: &str = "create table effects (id varchar(64) not null)";

impl Database {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MariaDB",
            Self::Sqlite => "SQLite",
        }
    }

    /// A database of its own; its URL.
    pub(crate) async fn create(self, folder: &std::path::Path) -> Result<String> {
        let name = unique("crash");
        Ok(match self {
            Self::Postgres => {
                let url = Service::POSTGRES.url();
                let mut server = PgConnection::connect(&url).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut server).await?;
                in_server(&url, &name)
            }
            Self::MySql => {
                let url = Service::MYSQL.url();
                let mut server = MySqlConnection::connect(&url).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut server).await?;
                in_server(&url, &name)
            }
            Self::Sqlite => format!("sqlite://{}", folder.join(format!("{name}.db")).display()),
        })
    }

    pub(crate) fn of(url: &str) -> Self {
        match url {
            url if url.starts_with("postgres") => Self::Postgres,
            url if url.starts_with("mysql") => Self::MySql,
            _ => Self::Sqlite,
        }
    }
}

/// The same URL with another database.
fn in_server(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}")
}

/// What a handler needs of a database of sqlx.
#[async_trait::async_trait]
pub(crate) trait Store: SqlDatabase {
    async fn pool(url: &str, steps: &Steps) -> Result<Pool<Self>>;

    async fn write(connection: &mut Self::Connection, statement: &str) -> sqlx::Result<u64>;

    async fn number(pool: &Pool<Self>, query: &str) -> sqlx::Result<i64>;
}

macro_rules! store {
    ($database:ty, |$url:ident, $steps:ident| $pool:expr) => {
        #[async_trait::async_trait]
        impl Store for $database {
            async fn pool($url: &str, $steps: &Steps) -> Result<Pool<Self>> {
                Ok($pool)
            }

            async fn write(connection: &mut Self::Connection, statement: &str) -> sqlx::Result<u64> {
                let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
                Ok(done.rows_affected())
            }

            async fn number(pool: &Pool<Self>, query: &str) -> sqlx::Result<i64> {
                sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await
            }
        }
    };
}

store!(Postgres, |url, _steps| Pool::connect_with(url.parse::<PgConnectOptions>()?).await?);
store!(MySql, |url, _steps| Pool::connect_with(url.parse::<MySqlConnectOptions>()?).await?);
// There is no way to a server on which a commit could be stopped; a hook stops it where it begins.
store!(Sqlite, |url, steps| {
    let options = SqliteConnectOptions::new()
        .filename(url.trim_start_matches("sqlite://"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let steps = steps.clone();
    let pool = SqlitePoolOptions::new().max_connections(4).after_connect(move |connection, _| {
        let steps = steps.clone();
        Box::pin(async move {
            connection.lock_handle().await?.set_commit_hook(move || {
                if steps.is_handling() {
                    steps.at("commit begun");
                }
                true
            });
            Ok(())
        })
    });
    pool.connect_with(options).await?
});
