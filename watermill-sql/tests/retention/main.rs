//! Behaviour of retention, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    expect(dead_code, reason = "only where others can write is anything inside a transaction")
)]
#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;

mod groups;
mod queues;
mod running;
mod server;

use std::time::Duration;

use futures::StreamExt;
use sqlx::Pool;
use watermill_core::{Delivery, Message, Publisher, Subscriber, Subscription};
use watermill_sql::{
    RetentionReport, SqlPublisher, SqlPublisherConfig, SqlRetention, SqlRetentionConfig, SqlSubscriber,
    SqlSubscriberConfig,
};

use crate::server::Server;

on_every_database! {
    groups::what_is_old_and_was_read_by_every_group_is_deleted,
    groups::what_was_acked_ahead_of_an_unsettled_row_does_not_let_that_row_go,
    groups::a_group_of_gos_that_is_behind_keeps_its_rows,
    groups::a_log_without_groups_is_kept_unless_that_is_not_wanted,
    groups::a_group_that_begins_later_reads_what_is_left,
    groups::readers_miss_nothing_while_rows_are_deleted_behind_them,
    queues::marked_rows_of_a_queue_are_deleted_and_others_stay,
    running::many_rows_are_deleted_batch_by_batch,
    running::a_topic_without_a_table_has_nothing_to_delete,
    running::a_table_that_is_not_ours_is_refused,
    running::a_router_runs_it_until_it_stops,
    running::a_router_does_not_start_with_a_retention_of_nothing,
}

// SQLite has one writer, which locks everything.
on_servers! {
    postgres_locks, mysql_locks,
    running::a_row_that_somebody_has_locked_is_left_for_the_next_run,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Deletes what is older than a day, without pauses.
fn by_the_day() -> SqlRetentionConfig {
    SqlRetentionConfig::default().keep_for(DAY).pause(Duration::ZERO)
}

async fn run<S: Server>(
    pool: &Pool<S::Database>,
    config: SqlRetentionConfig,
    topic: &str,
) -> RetentionReport {
    SqlRetention::new(pool.clone(), config).unwrap().run_once(topic).await.unwrap()
}

/// Publishes numbers.
async fn publish<S: Server>(pool: &Pool<S::Database>, numbers: std::ops::Range<usize>) {
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("t", numbers.map(|n| Message::new(n.to_string())).collect()).await.unwrap();
}

fn subscriber<S: Server>(pool: &Pool<S::Database>, group: &str) -> SqlSubscriber<S::Database> {
    SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default().group(group)).unwrap()
}

/// Reads and acks so many messages for a group.
async fn read<S: Server>(pool: &Pool<S::Database>, group: &str, topic: &str, count: usize) -> Vec<String> {
    let mut subscription = subscriber::<S>(pool, group).subscribe(topic).await.unwrap();
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let delivery = next(&mut subscription).await;
        payloads.push(payload(&delivery).to_owned());
        delivery.ack();
    }
    subscription.close().await.unwrap();
    payloads
}

async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", subscription.next()).await.expect("the stream goes on").unwrap()
}

fn payload(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.payload()).unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
