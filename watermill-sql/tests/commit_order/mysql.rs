//! MySQL and MariaDB: many writers, and the windows made wide.
//!
//! A trigger makes statements of several rows slow between them, and a session that keeps locking the
//! table's end makes writers queue with their offsets drawn.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};
use watermill_sql::SqlSubscriberConfig;
use watermill_testkit::{PrivateServer, Service, unique};

use crate::{
    Foreign, Load, TOPIC, missing_above_last, prove, prove_of_a_source,
    server::{RowId, Server, Tx, row_id},
};

struct Private {
    writing: MySqlPool,
    reading: MySqlPool,
    server: MySqlConnectOptions,
    name: String,
    /// One for this test alone.
    _own: Option<PrivateServer>,
}

impl Private {
    async fn new() -> Self {
        Self::on(&Service::MYSQL.url(), None).await
    }

    /// On a MariaDB that tells who has which table open.
    async fn that_tells_locks() -> Self {
        let server = PrivateServer::start(Service::MYSQL);
        let url = server.url().to_owned();
        let private = Self::on(&url, Some(server)).await;
        let mut connection = private.reading.acquire().await.unwrap();
        Self::execute(&mut connection, "install soname 'metadata_lock_info'".to_owned()).await.unwrap();
        private
    }

    async fn on(url: &str, own: Option<PrivateServer>) -> Self {
        let server: MySqlConnectOptions = url.parse().expect("a URL of MySQL");
        let name = unique("watermill");
        let mut connection = server.connect().await.expect("the server answers");
        Self::execute(&mut connection, format!("create database {name}")).await.unwrap();
        connection.close().await.unwrap();
        let options = server.clone().database(&name);
        let pool = |connections| {
            MySqlPoolOptions::new().max_connections(connections).connect_lazy_with(options.clone())
        };
        Self { writing: pool(40), reading: pool(5), server, name, _own: own }
    }

    /// Locks what is above the last offset, for a moment.
    async fn lock_the_end(&self) -> sqlx::Result<()> {
        let mut transaction = self.reading.begin().await?;
        let lock = format!(
            "select 1 from watermill_{TOPIC} where `offset` > (
                 select coalesce(max(`offset`), 0) from watermill_{TOPIC}
             ) for update"
        );
        Self::execute(&mut transaction, lock).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        transaction.rollback().await
    }
}

#[async_trait]
impl Server for Private {
    type Database = MySql;

    const QUOTE: char = '`';
    const MANY_WRITERS: bool = true;
    const TWO_PHASE: bool = false;

    fn pool(&self) -> &MySqlPool {
        &self.writing
    }

    fn reading_pool(&self) -> &MySqlPool {
        &self.reading
    }

    async fn begin(&self) -> sqlx::Result<Tx<Self>> {
        self.writing.begin().await
    }

    async fn execute(connection: &mut MySqlConnection, statement: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    async fn killer(victim: &mut MySqlConnection) -> sqlx::Result<Option<String>> {
        let id: u64 =
            sqlx::query_scalar("select cast(connection_id() as unsigned)").fetch_one(victim).await?;
        Ok(Some(format!("kill {id}")))
    }

    async fn rows_after(&self, offset: i64) -> sqlx::Result<Vec<(i64, RowId)>> {
        let query = format!(
            "select `offset`, cast(payload as char) from watermill_{TOPIC} where `offset` > ? order by 1"
        );
        let rows: Vec<(i64, String)> =
            sqlx::query_as(AssertSqlSafe(query)).bind(offset).fetch_all(&self.reading).await?;
        Ok(rows.into_iter().map(|(offset, payload)| (offset, row_id(payload.as_bytes()))).collect())
    }

    async fn prepare(&self) -> sqlx::Result<()> {
        let mut connection = self.reading.acquire().await?;
        Self::execute(&mut connection, "create table elsewhere (n integer)".to_owned()).await?;
        let slow =
            format!("create trigger slow after insert on watermill_{TOPIC} for each row do sleep(0.001)");
        Self::execute(&mut connection, slow).await
    }

    async fn disturb(&self) {
        loop {
            // It may be the victim of a deadlock; so may a writer.
            let _ = self.lock_the_end().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Private {
    /// On a thread of its own, because a test's runtime cannot be blocked on.
    fn drop(&mut self) {
        let server = self.server.clone();
        let drop = format!("set lock_wait_timeout = 10; drop database {}", self.name);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = server.connect().await?;
                Self::execute(&mut connection, drop).await?;
                connection.close().await
            })
        });
        if let Ok(Err(error)) = thread.join() {
            eprintln!("{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_no_foreign_transaction_waited_for() {
    let load = Load { writers: 12, transactions: 150, seed: 7 };
    prove(Private::new().await, load, SqlSubscriberConfig::default(), Foreign::AllAlong).await;
}

/// Only those count then who write to the topic's table.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_server_tells_which_tables_are_open() {
    let load = Load { writers: 12, transactions: 150, seed: 8 };
    prove(Private::that_tells_locks().await, load, SqlSubscriberConfig::default(), Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_is_not_ours_nothing_is_lost_and_no_foreign_transaction_waited_for() {
    let load = Load { writers: 6, transactions: 50, seed: 9 };
    prove_of_a_source(Private::new().await, load, Foreign::AllAlong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_above_its_last_offset_loses_rows() {
    let missing = missing_above_last(Private::new().await, Load { writers: 12, transactions: 60, seed: 6 });
    assert_ne!(missing.await, 0);
}
