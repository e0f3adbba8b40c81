//! A database on the test server that goes with the test.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};
use watermill_testkit::{Service, unique};

pub(crate) struct Database {
    server: MySqlConnectOptions,
    pub(crate) options: MySqlConnectOptions,
    name: String,
}

impl Database {
    /// Creates a database on another server. Blocks.
    pub(crate) fn on(url: &str) -> Self {
        let server: MySqlConnectOptions = url.parse().expect("a URL of MySQL");
        let name = unique("watermill");
        execute(server.clone(), format!("create database {name}"), None);
        let options = server.clone().database(&name);
        Self { server, options, name }
    }

    pub(crate) async fn pool(&self) -> MySqlPool {
        let options = self.options.clone();
        MySqlPoolOptions::new().max_connections(5).connect_with(options).await.expect("the server answers")
    }
}

/// A database on the server of all tests. Blocks.
impl Default for Database {
    fn default() -> Self {
        Self::on(&Service::MYSQL.url())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = &self.name;
        let others =
            format!("select concat('kill ', id) from information_schema.processlist where db = '{name}'");
        execute(self.server.clone(), format!("drop database {name}"), Some(others));
    }
}

/// On a thread of its own, because a test's runtime cannot be blocked on. First executes what a query
/// returns: connections of that runtime may have transactions open, for whose locks a drop would wait.
fn execute(server: MySqlConnectOptions, statement: String, before: Option<String>) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = server.connect().await?;
            if let Some(query) = before {
                let statements: Vec<String> =
                    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await?;
                for statement in statements {
                    // Some end by themselves meanwhile.
                    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
                }
            }
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
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
