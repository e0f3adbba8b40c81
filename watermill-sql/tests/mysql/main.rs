//! Behaviour on MySQL and MariaDB.

#![cfg(feature = "mysql")]

#[path = "../mysql_database/mod.rs"]
mod mysql_database;

mod dead_letters;
mod dropping;
mod gaps;
mod ownership;
mod packets;
mod publishing;
mod queues;
mod tables;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use mysql_database::Database;
use sqlx::{AssertSqlSafe, MySql, MySqlPool};
use tracing::Level;
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    subscription::Health,
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig, StartPosition};
use watermill_testkit::LogLines;

fn publisher(pool: &MySqlPool) -> SqlPublisher<MySql> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn subscriber(pool: &MySqlPool) -> SqlSubscriber<MySql> {
    subscriber_with(pool, SqlSubscriberConfig::default())
}

fn subscriber_with(pool: &MySqlPool, config: SqlSubscriberConfig) -> SqlSubscriber<MySql> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

/// JSON numbers.
fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
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
    within("a delivery", next).await
}

async fn payload(subscription: &mut Subscription) -> String {
    let delivery = next(subscription).await;
    let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
    delivery.ack();
    text
}

/// The group's columns in Go's table: acked and consumed.
async fn position(pool: &MySqlPool, topic: &str, group: &str) -> (i64, i64) {
    sqlx::query_as(AssertSqlSafe(format!(
        "select offset_acked, offset_consumed from `watermill_offsets_{topic}` where consumer_group = ?"
    )))
    .bind(group)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn count(pool: &MySqlPool, topic: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from `watermill_{topic}`")))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn execute(pool: &MySqlPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}
