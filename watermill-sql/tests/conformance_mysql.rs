//! Joins MySQL or MariaDB to the conformance suite, with each payload column.

#![cfg(feature = "mysql")]

mod mysql_database;

use std::time::Duration;

use async_trait::async_trait;
use mysql_database::Database;
use watermill_sql::{PayloadColumn, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, Limits};

/// An id has room for a UUID.
fn limits() -> Limits {
    Limits::default().ids(|id| id.chars().count() <= 36)
}

/// A database of its own for each test.
struct MySql {
    database: Database,
    payload_column: PayloadColumn,
}

impl MySql {
    fn new(payload_column: PayloadColumn) -> Self {
        Self { database: Database::default(), payload_column }
    }

    async fn connect_with(&self, config: SqlSubscriberConfig) -> Connection {
        let pool = self.database.pool().await;
        let publishing = SqlPublisherConfig::default().payload_column(self.payload_column);
        let reading = config.dead_letter_topic("dead").payload_column(self.payload_column);
        let publisher = SqlPublisher::new(pool.clone(), publishing).expect("a valid config");
        Connection::new(publisher, SqlSubscriber::new(pool, reading).expect("a valid config"))
    }
}

#[async_trait]
impl Backend for MySql {
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
        ["", "a b", "a\"b", "ü", "a/b", &"t".repeat(47)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some("dead".to_owned())
    }
}

mod json {
    use super::*;
    watermill_testkit::conformance!(MySql::new(PayloadColumn::Json));
}

mod bytes {
    use super::*;
    watermill_testkit::conformance!(MySql::new(PayloadColumn::Bytes));
}
