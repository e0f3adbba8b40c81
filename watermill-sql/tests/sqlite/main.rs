//! Behaviour on SQLite files.

#![cfg(feature = "sqlite")]

mod ownership;
mod publishing;
mod reading;
mod tables;

use std::{num::NonZeroUsize, time::Duration};

use futures::{FutureExt, StreamExt};
use sqlx::{
    Row, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use watermill_core::{
    Backoff, Delivery, Message, Publisher, PublisherExt, Subscriber, Subscription, Window,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    subscription::Health,
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig, StartPosition};

/// A database file that goes with the test.
struct Database {
    directory: TempDir,
}

impl Database {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    async fn pool(&self) -> SqlitePool {
        self.pool_of(5).await
    }

    async fn pool_of(&self, connections: u32) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(self.directory.path().join("test.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        SqlitePoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
    }
}

fn publisher(pool: &SqlitePool) -> SqlPublisher<Sqlite> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn subscriber(pool: &SqlitePool) -> SqlSubscriber<Sqlite> {
    subscriber_with(pool, SqlSubscriberConfig::default())
}

fn subscriber_with(pool: &SqlitePool, config: SqlSubscriberConfig) -> SqlSubscriber<Sqlite> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

/// The group of Go's SQLite reader when none is named, and so ours.
const GO_DEFAULT_GROUP: &str = "default";

fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

/// A process that was frozen, or a database that is slow to answer, may have a reader say so and go on.
async fn next(subscription: &mut Subscription) -> Delivery {
    let next = async {
        loop {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => return delivery,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    tokio::time::timeout(watermill_testkit::patience(), next).await.expect("a delivery comes")
}

async fn payload(subscription: &mut Subscription) -> String {
    let delivery = next(subscription).await;
    let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
    delivery.ack();
    text
}

async fn position(pool: &SqlitePool, topic: &str, group: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        r#"select offset_acked from "watermill_offsets_{topic}" where consumer_group = ?"#
    )))
    .bind(group)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn count(pool: &SqlitePool, topic: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(r#"select count(*) from "watermill_{topic}""#)))
        .fetch_one(pool)
        .await
        .unwrap()
}
