//! The lottery on the databases of servers.

use sqlx::{AssertSqlSafe, Connection, Executor};
use watermill_testkit::{Service, unique};

use super::{check, lottery, run, text};

/// Runs on a database of its own, twice, the second time with what the first has left.
fn runs_on<C: Connection>(url: &str)
where
    for<'c> &'c mut C: Executor<'c>,
{
    let name = unique("lottery");
    execute::<C>(url, &format!("create database {name}"));
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    let database = format!("{server}/{name}");
    let table = run("1", &database);
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every database");
    assert_eq!(table, run("1", &database));
    execute::<C>(url, &format!("drop database {name}"));
}

fn execute<C: Connection>(url: &str, statement: &str)
where
    for<'c> &'c mut C: Executor<'c>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let executed = runtime.block_on(async {
        let mut connection = C::connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
        connection.close().await
    });
    executed.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // Nothing listens on a port that was never given to anything.
    let urls: &[(&str, &str)] = &[
        #[cfg(feature = "postgres")]
        ("postgres://postgres@127.0.0.1:2/lottery", "failed to connect to PostgreSQL on 127.0.0.1"),
        #[cfg(feature = "mysql")]
        ("mysql://root@127.0.0.1:2/lottery", "failed to connect to MySQL on 127.0.0.1"),
    ];
    for (url, reason) in urls {
        let output = lottery(&["--database", url]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
}

#[cfg(feature = "postgres")]
#[test]
fn the_same_seed_gives_the_same_table_on_postgresql() {
    runs_on::<sqlx::PgConnection>(&Service::POSTGRES.url());
}

#[cfg(feature = "mysql")]
#[test]
fn the_same_seed_gives_the_same_table_on_mysql() {
    runs_on::<sqlx::MySqlConnection>(&Service::MYSQL.url());
}

/// An empty database on PostgreSQL, for one run.
#[cfg(all(feature = "postgres", any(feature = "kafka", feature = "pubsub")))]
pub(crate) fn postgres_of_its_own() -> String {
    let (url, name) = (Service::POSTGRES.url(), unique("lottery"));
    execute::<sqlx::PgConnection>(&url, &format!("create database {name}"));
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}")
}

/// An empty database on MySQL or MariaDB, for one run.
#[cfg(all(feature = "mysql", any(feature = "kafka", feature = "pubsub")))]
pub(crate) fn mysql_of_its_own() -> String {
    let (url, name) = (Service::MYSQL.url(), unique("lottery"));
    execute::<sqlx::MySqlConnection>(&url, &format!("create database {name}"));
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}")
}
