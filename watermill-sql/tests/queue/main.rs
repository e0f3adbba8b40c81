//! Behaviour of queues, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[expect(dead_code, reason = "nothing of this suite is inside a transaction")]
#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;

mod claiming;
mod delaying;
mod keys;
mod ordering;
mod server;
mod settling;
mod tables;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use sqlx::Pool;
use watermill_core::{
    Backoff, Delivery, Message, Publisher, PublisherExt, Subscriber, Subscription,
    error::{PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
};
use watermill_sql::{
    Layout, OnAck, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig,
    SqlSubscriber, SqlSubscriberConfig,
};

use crate::server::Server;

/// A day: polling finds nothing in the time of a test, so that what is delivered was announced.
const NEVER: Duration = Duration::from_secs(24 * 3600);

on_every_database! {
    claiming::each_message_goes_to_one_of_many_workers,
    claiming::a_slow_worker_leaves_messages_to_others,
    claiming::a_worker_that_dies_loses_no_message,
    claiming::a_handler_may_take_longer_than_the_visibility_timeout,
    claiming::a_worker_whose_message_is_with_another_is_told_and_its_ack_refused,
    claiming::what_lies_behind_a_backlog_that_waits_is_found_by_an_index,
    claiming::a_claim_brings_no_more_bytes_than_it_may_however_it_looks,
    delaying::a_delayed_message_comes_when_it_is_due_and_not_before,
    delaying::a_delay_that_only_the_metadata_knows_is_waited_for,
    delaying::a_nacked_message_comes_again_after_its_delay_and_others_pass_it,
    delaying::a_time_that_no_column_holds_is_refused,
    delaying::a_queue_keeps_delays_for_another_backend,
    delaying::retries_wait_in_queues_and_outlive_the_router,
    ordering::a_key_waits_for_its_message_in_hand_and_others_go_on,
    ordering::a_nacked_or_delayed_message_holds_its_key,
    ordering::eight_workers_keep_the_order_of_keys_whatever_fails,
    ordering::a_worker_that_dies_frees_its_keys_and_the_same_messages_come_first,
    ordering::a_message_that_is_committed_late_waits_for_the_one_in_hand,
    ordering::a_claim_that_cannot_be_seen_yet_keeps_its_key,
    ordering::a_rejected_or_marked_message_releases_its_key,
    ordering::an_unreadable_message_holds_its_key_until_it_is_mended,
    keys::a_hot_key_is_not_in_the_way_of_others,
    keys::a_key_whose_first_row_somebody_deletes_goes_on,
    keys::a_queue_in_order_and_one_without_are_told_apart,
    keys::a_queue_that_is_filled_is_put_in_order_in_the_time_that_one_gives_it,
    keys::a_key_may_be_any_bytes,
    keys::status_tells_what_waits_behind_its_key,
    settling::an_acked_row_is_deleted,
    settling::an_acked_row_is_marked_where_that_is_wanted,
    settling::a_rejected_message_is_moved_to_the_dead_letters,
    settling::a_row_that_cannot_be_read_comes_ever_less_often_and_holds_nothing_up,
    settling::a_row_that_cannot_be_read_is_moved_to_the_dead_letters,
    settling::a_row_without_a_payload_is_moved_to_the_dead_letters_and_holds_nothing_up,
    settling::what_a_transaction_publishes_is_there_after_the_commit,
    tables::the_tables_of_go_are_worked_on_as_they_are,
    tables::logs_and_queues_are_told_apart,
    tables::a_queue_has_no_groups,
    tables::a_queue_that_go_made_and_nobody_may_alter_is_refused_with_the_remedy,
    tables::many_that_begin_at_once_adopt_a_queue_once,
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_put_a_queue_in_order_may_take_longer_than_anything_else() {
    keys::to_put_a_queue_in_order_may_take_longer_than_anything_else().await;
}

fn publisher<S: Server>(pool: &Pool<S::Database>) -> SqlPublisher<S::Database> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(Layout::Queue)).unwrap()
}

fn worker<S: Server>(pool: &Pool<S::Database>) -> SqlQueueSubscriber<S::Database> {
    worker_with::<S>(pool, SqlQueueSubscriberConfig::default())
}

fn worker_with<S: Server>(
    pool: &Pool<S::Database>,
    config: SqlQueueSubscriberConfig,
) -> SqlQueueSubscriber<S::Database> {
    SqlQueueSubscriber::new(pool.clone(), config).unwrap()
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

async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", subscription.next()).await.expect("the stream goes on").unwrap()
}

fn payload(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.payload()).unwrap()
}

/// Waits until a query says so many.
async fn until_there_are<S: Server>(pool: &Pool<S::Database>, count: i64, query: &str) {
    within(query, async {
        while S::number(pool, query).await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
