//! A place on the test server that goes with the test.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use watermill_testkit::{Service, unique};

/// A database, or a schema of the server's own one.
pub(crate) struct Database {
    pub(crate) server: PgConnectOptions,
    pub(crate) options: PgConnectOptions,
    /// How it is dropped.
    pub(crate) drop: String,
}

impl Database {
    /// Creates a database. Blocks.
    pub(crate) fn on(url: &str) -> Self {
        let server: PgConnectOptions = url.parse().expect("a URL of PostgreSQL");
        let name = unique("watermill");
        execute(server.clone(), format!("create database {name}"));
        let options = server.clone().database(&name);
        Self { server, options, drop: format!("drop database {name} with (force)") }
    }

    pub(crate) async fn pool(&self) -> PgPool {
        let options = self.options.clone();
        PgPoolOptions::new().max_connections(5).connect_with(options).await.expect("the server answers")
    }
}

/// A database on the server of all tests. Blocks.
impl Default for Database {
    fn default() -> Self {
        Self::on(&Service::POSTGRES.url())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(self.server.clone(), format!("set lock_timeout = '10s'; {}", self.drop));
    }
}

/// On a thread of its own, because a test's runtime cannot be blocked on.
pub(crate) fn execute(server: PgConnectOptions, statements: String) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = server.connect().await?;
            // One by one: a database is not dropped inside a transaction.
            for statement in statements.split("; ") {
                sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
            }
            connection.close().await
        })
    });
    let outcome: Result<(), sqlx::Error> = thread.join().expect("no panic");
    // A server that was stopped has dropped nothing, and matters to nobody.
    if let Err(error) = outcome
        && !std::thread::panicking()
    {
        eprintln!("{error}");
    }
}
