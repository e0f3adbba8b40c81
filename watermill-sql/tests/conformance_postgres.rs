//! Joins PostgreSQL to the conformance suite, with each payload column and each commit order.

#![cfg(feature = "postgres")]

mod postgres_database;

use std::time::Duration;

use async_trait::async_trait;
use postgres_database::Database;
use sqlx::postgres::PgConnectOptions;
use watermill_sql::{
    CommitOrder, PayloadColumn, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Limits, Service, unique};

/// An id has room for a UUID.
fn limits() -> Limits {
    Limits::default().ids(|id| id.chars().count() <= 36)
}

/// A database of its own for each test.
struct Postgres {
    database: Database,
    payload_column: PayloadColumn,
    commit_order: CommitOrder,
}

impl Postgres {
    fn new(payload_column: PayloadColumn, commit_order: CommitOrder) -> Self {
        let database = match commit_order {
            CommitOrder::Snapshot => schema(),
            _ => Database::default(),
        };
        Self { database, payload_column, commit_order }
    }

    async fn connect_with(&self, config: SqlSubscriberConfig) -> Connection {
        let pool = self.database.pool().await;
        let publishing = SqlPublisherConfig::default().payload_column(self.payload_column);
        let reading = config
            .dead_letter_topic("dead")
            .payload_column(self.payload_column)
            .commit_order(self.commit_order);
        let publisher = SqlPublisher::new(pool.clone(), publishing).expect("a valid config");
        Connection::new(publisher, SqlSubscriber::new(pool, reading).expect("a valid config"))
    }
}

/// A schema of its own. Dropping a database is a long transaction, and whoever reads by snapshot waits for
/// those of the whole cluster.
fn schema() -> Database {
    let server: PgConnectOptions = Service::POSTGRES.url().parse().expect("a URL of PostgreSQL");
    let name = unique("watermill");
    postgres_database::execute(server.clone(), format!("create schema {name}"));
    let options = server.clone().options([("search_path", &name)]);
    Database { server, options, drop: format!("drop schema {name} cascade") }
}

#[async_trait]
impl Backend for Postgres {
    async fn connect(&self) -> Connection {
        self.connect_with(SqlSubscriberConfig::default()).await
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        let lease = Duration::from_secs(1);
        Some((self.connect_with(SqlSubscriberConfig::default().lease(lease)).await, lease))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::Restart]
    }

    fn limits(&self) -> Limits {
        match self.payload_column {
            PayloadColumn::Json => limits().json_payloads(),
            _ => limits(),
        }
    }

    fn invalid_topics(&self) -> Vec<String> {
        ["", "a b", "a\"b", "ü", "a/b", &"t".repeat(46)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some("dead".to_owned())
    }
}

mod json_by_lock_holders {
    use super::*;
    watermill_testkit::conformance!(Postgres::new(PayloadColumn::Json, CommitOrder::LockHolders));
}

mod bytes_by_lock_holders {
    use super::*;
    watermill_testkit::conformance!(Postgres::new(PayloadColumn::Bytes, CommitOrder::LockHolders));
}

/// As it would be shared with Go.
mod bytes_by_snapshot {
    use super::*;
    watermill_testkit::conformance!(Postgres::new(PayloadColumn::Bytes, CommitOrder::Snapshot));
}
