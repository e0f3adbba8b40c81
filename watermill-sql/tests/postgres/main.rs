//! Behaviour on PostgreSQL.

#![cfg(feature = "postgres")]

#[path = "../postgres_database/mod.rs"]
mod postgres_database;

mod commit_order;
mod dead_letters;
mod limits;
mod ordered;
mod ownership;
mod publishing;
mod reconnecting;
mod tables;
mod watching;
mod zones;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use postgres_database::Database;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use tracing::Level;
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    subscription::Health,
};
use watermill_sql::{
    CommitOrder, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig, StartPosition,
};
use watermill_testkit::LogLines;

fn publisher(pool: &PgPool) -> SqlPublisher<Postgres> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn subscriber(pool: &PgPool) -> SqlSubscriber<Postgres> {
    subscriber_with(pool, SqlSubscriberConfig::default())
}

fn subscriber_with(pool: &PgPool, config: SqlSubscriberConfig) -> SqlSubscriber<Postgres> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

fn by(commit_order: CommitOrder) -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().commit_order(commit_order)
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

/// The group's columns in Go's table: transaction and offset.
async fn position(pool: &PgPool, topic: &str, group: &str) -> (String, i64) {
    sqlx::query_as(AssertSqlSafe(format!(
        r#"select last_processed_transaction_id::text, offset_acked
           from "watermill_offsets_{topic}" where consumer_group = $1"#
    )))
    .bind(group)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn count(pool: &PgPool, topic: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!(r#"select count(*) from "watermill_{topic}""#)))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn execute(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}

/// Go's tables, as its documentation has them: without an index on the offset alone.
async fn create_go_tables(pool: &PgPool, topic: &str, payload: &str) {
    execute(
        pool,
        &format!(
            r#"create table "watermill_{topic}" (
                   "offset" bigserial, uuid varchar(36) not null,
                   created_at timestamp not null default current_timestamp,
                   payload {payload} default null, metadata json default null,
                   transaction_id xid8 not null, primary key (transaction_id, "offset"));
               create table "watermill_offsets_{topic}" (
                   consumer_group varchar(255) not null, offset_acked bigint,
                   last_processed_transaction_id xid8 not null, primary key (consumer_group))"#
        ),
    )
    .await;
}
