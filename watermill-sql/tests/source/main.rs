//! Tables that are not ours, read as logs and worked on as queues, on every database.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;

mod deleted;
mod faults;
mod logs;
mod outbox;
mod queues;
mod refused;
mod relaying;
mod shards;
mod status;
mod values;

use std::time::Duration;

use futures::StreamExt;
use outbox::Outbox;
use sqlx::Pool;
use watermill_core::{Delivery, Subscriber, Subscription, delivery::Outcome, error::SubscribeErrorKind};
use watermill_sql::{
    AfterAck, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSource, SqlSubscriber, SqlSubscriberConfig,
};

on_every_database! {
    logs::columns_become_id_payload_key_and_metadata,
    logs::positions_are_ours_and_the_table_stays_as_it_is,
    logs::what_commits_late_is_read_in_its_place_and_what_is_rolled_back_is_passed,
    logs::a_row_that_was_acked_is_deleted_and_no_other,
    logs::a_row_that_was_acked_is_marked,
    logs::a_row_that_was_rejected_is_moved_to_the_dead_letters,
    logs::a_row_that_is_no_message_is_moved_to_the_dead_letters,
    queues::a_table_with_a_uuid_is_a_queue_for_many_workers,
    queues::a_row_that_was_acked_is_kept_and_comes_no_more,
    queues::a_row_that_was_acked_is_marked_and_what_is_marked_is_left_alone,
    queues::a_nacked_row_comes_again_and_a_rejected_one_is_moved,
    queues::what_a_worker_that_died_had_comes_again,
    queues::a_claim_whose_row_is_gone_is_done_with_though_nothing_else_comes,
    queues::a_claim_brings_no_more_bytes_than_it_may,
    deleted::a_row_of_a_log_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    deleted::a_row_of_a_log_that_is_deleted_after_a_nack_holds_up_nothing,
    deleted::a_row_of_a_queue_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    deleted::a_row_of_a_source_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    faults::a_row_that_is_no_message_is_reported_until_it_is_mended,
    faults::a_group_that_begins_at_the_latest_row_gets_what_commits_late,
    faults::a_counter_that_begins_anew_is_noticed_with_the_remedy,
    faults::who_writes_to_it_and_holds_a_reader_back_is_named,
    relaying::an_outbox_that_somebody_has_is_relayed_and_its_rows_are_kept_deleted_or_marked,
    relaying::a_row_without_a_destination_is_dead_lettered_with_the_reason,
    relaying::a_row_that_is_refused_for_ever_and_then_deleted_holds_up_its_key_no_longer,
    relaying::a_row_without_a_value_is_relayed_as_a_tombstone,
    refused::a_table_or_column_that_is_not_there_is_named,
    refused::a_column_that_does_not_count_is_no_order_of_a_log,
    refused::a_source_has_one_topic_which_has_no_messages_of_its_own,
    refused::an_id_that_a_claim_cannot_hold_is_refused_and_any_other_is_worked_on,
    refused::a_column_that_holds_no_time_tells_of_none,
    shards::a_row_that_cannot_be_read_holds_a_change_of_their_number_up_until_it_is_mended,
    shards::a_change_of_their_number_goes_on_where_the_row_at_its_boundary_was_deleted,
    status::the_status_of_a_source_that_is_a_log_tells_of_each_group_where_it_is,
    status::the_status_of_a_source_that_is_a_queue_tells_what_waits_for_what,
    values::a_row_without_a_value_is_a_tombstone_and_one_with_an_empty_one_is_not,
    values::an_id_that_is_longer_than_ours_is_delivered_and_its_dead_letter_has_it,
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_another_shard_has_deleted_are_not_waited_for() {
    Box::pin(shards::rows_that_another_shard_has_deleted_are_not_waited_for()).await;
}

fn log<S: Outbox>(pool: &Pool<S::Database>, source: SqlSource) -> SqlSubscriber<S::Database> {
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(900)).source(source);
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

fn queue<S: Outbox>(pool: &Pool<S::Database>, source: SqlSource) -> SqlQueueSubscriber<S::Database> {
    let config =
        SqlQueueSubscriberConfig::default().visibility_timeout(Duration::from_millis(900)).source(source);
    SqlQueueSubscriber::new(pool.clone(), config).unwrap()
}

/// The next message. A database that is slow to answer says so on the stream, and is asked again.
async fn next(subscription: &mut Subscription) -> Delivery {
    let next = async {
        loop {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => return delivery,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    let next = tokio::time::timeout(watermill_testkit::patience(), next).await;
    next.unwrap_or_else(|_| panic!("nothing comes: {:?}", subscription.status().health))
}

/// Acks as many messages, which is recorded then, and returns their payloads.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        payloads.push(payload(&delivery));
        delivery.ack_confirmed().await.unwrap();
    }
    payloads
}

/// Waits until something is so.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !Box::pin(look()).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn payload(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().to_vec()).unwrap()
}
